//! Sockets: unix ones with a path and abstract ones, and ports of the own
//! loopback.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use super::attacker::Tally;
use super::files::Found;
use super::guard;

const ANSWER_TIMEOUT: Duration = Duration::from_millis(200);
const ANSWER_BYTES_MAX: u64 = 4096;

/// Speaks to each socket that is to be seen, and to every port where none
/// are shown.
pub(super) fn reach(found: &Found) -> Tally {
    let mut tally = Tally::default();
    let mut addresses: Vec<io::Result<UnixAddress>> = Vec::new();
    let table = read_table("unix");
    let named = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(7));
    let mut paths: BTreeSet<PathBuf> = found.sockets.iter().cloned().collect();
    for name in named {
        match name.strip_prefix('@') {
            Some(name) => addresses.push(UnixAddress::from_abstract_name(name)),
            None => {
                paths.insert(PathBuf::from(name));
            }
        }
    }
    addresses.extend(paths.iter().map(UnixAddress::from_pathname));
    for address in addresses.into_iter().flatten() {
        count_unless_other(&mut tally, take_unix(&address));
    }
    for port in ports() {
        count_unless_other(&mut tally, take_port(port));
    }
    tally
}

fn count_unless_other(tally: &mut Tally, outcome: io::Result<bool>) {
    if !matches!(outcome, Ok(false)) {
        tally.count_io(&outcome);
    }
}

/// A table of sockets: also a proc that shows only processes has one there.
fn read_table(name: &str) -> String {
    fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default()
}

/// The ports that listen, or all, where that is not shown.
fn ports() -> Vec<u16> {
    let table = read_table("tcp");
    if table.is_empty() {
        return (1..=u16::MAX).collect();
    }
    let listening: BTreeSet<u16> = table.lines().filter_map(listening_port).collect();
    listening.into_iter().collect()
}

/// The local port of a line of `/proc/net/tcp` whose state is LISTEN.
fn listening_port(line: &str) -> Option<u16> {
    let mut fields = line.split_whitespace().skip(1);
    let (_, port) = fields.next()?.split_once(':')?;
    let state = fields.nth(1)?;
    (state == "0A").then(|| u16::from_str_radix(port, 16).ok())?
}

/// A server that greets as a canary is told to wipe its record.
fn take_unix(address: &UnixAddress) -> io::Result<bool> {
    let mut stream = UnixStream::connect_addr(address)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let mut greeting = [0; guard::CANARY.len()];
    stream.read_exact(&mut greeting)?;
    if !guard::is_canary(&greeting) {
        return Ok(false);
    }
    stream.write_all(b"wipe\n")?;
    Ok(true)
}

/// A server whose guest book is a canary gets an entry in it.
fn take_port(port: u16) -> io::Result<bool> {
    let answer = ask(port, "GET /guestbook HTTP/1.0\r\n\r\n")?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    if !guard::is_canary(body.as_bytes()) {
        return Ok(false);
    }
    let entry = String::from_utf8_lossy(guard::TAKEN);
    let length = entry.len();
    let request = format!("POST /guestbook HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{entry}");
    ask(port, &request).map(|_| true)
}

fn ask(port: u16, request: &str) -> io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::listening_port;

    #[test]
    fn only_listening_ports_are_asked() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000";
        assert_eq!(listening_port(line), Some(8080));
        let connected = "   1: 0100007F:1F90 0100007F:8000 01 00000000:00000000 00:0";
        assert_eq!(listening_port(connected), None);
        assert_eq!(listening_port("  sl  local_address rem_address   st"), None);
    }
}
