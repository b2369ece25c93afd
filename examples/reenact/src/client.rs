//! One HTTP request, with a deadline.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// What follows the head.
    pub(crate) body: Vec<u8>,
}

/// Asks the server at `address` for `path`.
///
/// # Errors
/// `TimedOut` when the whole answer is not there within `timeout`,
/// `InvalidData` for what is no answer, else the peer's.
pub(crate) fn get(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<Answer> {
    let end = Instant::now() + timeout;
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut received = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => received.extend_from_slice(piece.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
        if received.len() > ANSWER_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    parse(&received).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse(received: &[u8]) -> Option<Answer> {
    let end = received.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(received.get(..end)?).ok()?;
    let body = received.get(end + 4..)?.to_vec();
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    if !words.next()?.starts_with("HTTP/1.") {
        return None;
    }
    let status = words.next()?.parse().ok()?;
    let declared = lines.find_map(|line| line.strip_prefix("Content-Length: "))?;
    // A body cut short is no answer.
    (declared.parse() == Ok(body.len())).then_some(Answer { status, body })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn body_that_was_cut_short_is_no_answer() {
        let whole = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        assert!(parse(whole).is_some_and(|a| a.status == 200 && a.body == b"hi"));
        for bad in [
            &b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nhi"[..],
            b"HTTP/1.0 200 OK\r\n\r\nhi",
            b"200 OK\r\nContent-Length: 2\r\n\r\nhi",
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n",
            b"",
        ] {
            assert_eq!(parse(bad), None);
        }
    }
}
