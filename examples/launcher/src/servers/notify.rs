//! What systemd is told of a service.

use std::env;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::error::{Error, at};

/// Where the manager listens, as it tells each service.
///
/// # Source
/// sd_notify(3)
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Says that the service runs, and that it is the process `pid` from now on.
pub(super) fn runs(pid: i32) -> Result<(), Error> {
    let name = env::var_os(VARIABLE).ok_or(Error::NotAService)?;
    let failed = || at("telling the manager at", name.clone());
    let address = address(&name).map_err(failed())?;
    let socket = UnixDatagram::unbound().map_err(failed())?;
    let message = format!("MAINPID={pid}\nREADY=1\n");
    socket
        .send_to_addr(message.as_bytes(), &address)
        .map_err(failed())?;
    Ok(())
}

/// A path, or an abstract name behind an `@`.
fn address(name: &OsStr) -> std::io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}
