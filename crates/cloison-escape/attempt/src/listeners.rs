//! D01: unix sockets that listen outside, by abstract name and by path.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::process::ExitCode;

use crate::arguments::Arguments;
use crate::report::{CouldNotTry, Report, Verdict};
use crate::roles;

/// Reaches the listeners of the role [`listen`].
pub(crate) fn d01(arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let name = arguments.text("name")?;
    let path = arguments.text("path")?;
    let failed = |error: std::io::Error| CouldNotTry(format!("an address: {error}"));
    let stream = SocketAddr::from_abstract_name(format!("{name}-stream")).map_err(failed)?;
    let datagram = SocketAddr::from_abstract_name(format!("{name}-datagram")).map_err(failed)?;
    let by_path = SocketAddr::from_pathname(path).map_err(failed)?;
    report.way("abstract-stream", || connect(&stream));
    report.way("abstract-datagram", || send(&datagram));
    report.way("path-stream", || connect(&by_path));
    Ok(())
}

fn connect(address: &SocketAddr) -> Verdict {
    match UnixStream::connect_addr(address) {
        Ok(stream) => {
            // It is looked at from outside, until this process ends.
            std::mem::forget(stream);
            Verdict::Through("connected".to_owned())
        }
        Err(error) => Verdict::refused("connect", &error),
    }
}

fn send(address: &SocketAddr) -> Verdict {
    let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(b"!", address));
    match sent {
        Ok(_) => Verdict::Through("sent".to_owned()),
        Err(error) => Verdict::refused("sendto", &error),
    }
}

/// Listens at the abstract names `name` and at `path`, notes each that comes
/// in the file `record`, and lives until its standard input ends.
pub(crate) fn listen(arguments: &Arguments) -> Result<ExitCode, CouldNotTry> {
    let name = arguments.text("name")?;
    let failed = |error: std::io::Error| CouldNotTry(format!("listening: {error}"));
    let record = arguments.text("record")?;
    let record = OpenOptions::new()
        .append(true)
        .create(true)
        .open(record)
        .map_err(failed)?;
    let address = |kind: &str| SocketAddr::from_abstract_name(format!("{name}-{kind}"));
    let streams = [
        UnixListener::bind_addr(&address("stream").map_err(failed)?).map_err(failed)?,
        UnixListener::bind(arguments.text("path")?).map_err(failed)?,
    ];
    let datagrams =
        UnixDatagram::bind_addr(&address("datagram").map_err(failed)?).map_err(failed)?;
    for stream in streams {
        let mut record = record.try_clone().map_err(failed)?;
        std::thread::spawn(move || {
            let noted = |peer: std::io::Result<UnixStream>| {
                peer.and_then(|_| record.write_all(b"connected\n")).is_ok()
            };
            stream.incoming().all(noted)
        });
    }
    let mut record = record;
    std::thread::spawn(move || {
        while datagrams.recv(&mut [0; 8]).is_ok() && record.write_all(b"received\n").is_ok() {}
    });
    println!("listening=1");
    roles::until_standard_input_ends()?;
    Ok(ExitCode::SUCCESS)
}
