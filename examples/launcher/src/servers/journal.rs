//! systemd's journal as the place where a server's output goes.

use std::io::Write;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use cloison::ServerId;
use cloison_sandbox::Streams;

use crate::error::{Error, at};

/// Where the journal listens for streams.
///
/// # Source
/// sd_journal_stream_fd(3)
const SOCKET: &str = "/run/systemd/journal/stdout";
/// The priorities of the two streams, as syslog(3) numbers them.
const INFORMATION: u8 = 6;
const WARNING: u8 = 4;

/// Streams that end in the journal, under the name of the server. A server has
/// nothing to read.
pub(super) fn streams(id: &ServerId) -> Result<Streams, Error> {
    let (nothing, _) = std::io::pipe().map_err(at("making a pipe for", SOCKET))?;
    Ok(Streams::Descriptors {
        stdin: nothing.into(),
        stdout: stream(id, INFORMATION)?,
        stderr: stream(id, WARNING)?,
    })
}

fn stream(id: &ServerId, priority: u8) -> Result<OwnedFd, Error> {
    let mut socket = UnixStream::connect(SOCKET).map_err(|source| {
        Error::NoJournal(match at("connecting to", SOCKET)(source) {
            Error::Path { source, .. } => source,
            _ => std::io::ErrorKind::Other.into(),
        })
    })?;
    // Identifier, unit, priority, whether lines name a priority themselves, and
    // whether it goes to syslog, the kernel's log and the console too.
    let header = format!("cloison/{id}\n\n{priority}\n0\n0\n0\n0\n");
    socket
        .write_all(header.as_bytes())
        .and_then(|()| socket.shutdown(Shutdown::Read))
        .map_err(at("writing to", SOCKET))?;
    Ok(socket.into())
}
