//! HTTP/1.0, as much as a small server of static files needs.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

const HEAD_BYTES_MAX: usize = 8192;
const BODY_BYTES_MAX: usize = 1024;
const PATH_BYTES_MAX: usize = 256;
const PEER_TIMEOUT: Duration = Duration::from_secs(1);

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
}

/// A request that was understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Names that are safe below a folder, parted by slashes.
    pub(super) path: String,
    /// What follows the question mark.
    pub(super) query: String,
    content_length: usize,
    pub(super) body: Vec<u8>,
}

/// Why a request gets no other answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    Accepted,
    BadRequest,
    NotFound,
    ServerError,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::Accepted => "202 Accepted",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::ServerError => "500 Internal Server Error",
        }
    }
}

/// Reads one request.
///
/// # Errors
/// Of the peer; `InvalidData` for what is not a request.
pub(super) fn read_request(stream: &mut TcpStream) -> io::Result<Request> {
    stream.set_read_timeout(Some(PEER_TIMEOUT))?;
    stream.set_write_timeout(Some(PEER_TIMEOUT))?;
    let mut received = Vec::new();
    let head_end = loop {
        if let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if received.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        receive_more(stream, &mut received)?;
    };
    let head = received.get(..head_end).unwrap_or_default();
    let mut request = parse_head(head).ok_or(io::ErrorKind::InvalidData)?;
    let body_at = head_end + 4;
    while received.len() < body_at + request.content_length {
        receive_more(stream, &mut received)?;
    }
    let body = received.get(body_at..body_at + request.content_length);
    request.body = body.unwrap_or_default().to_vec();
    Ok(request)
}

fn receive_more(stream: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<()> {
    let mut piece = [0; 1024];
    match stream.read(&mut piece)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        length => {
            received.extend_from_slice(piece.get(..length).unwrap_or_default());
            Ok(())
        }
    }
}

fn parse_head(head: &[u8]) -> Option<Request> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let method = match words.next()? {
        "GET" => Method::Get,
        "POST" => Method::Post,
        _ => return None,
    };
    let target = words.next()?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let version = words.next()?;
    if words.next().is_some() || !version.starts_with("HTTP/1.") {
        return None;
    }
    let mut content_length = 0;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") {
            content_length = value.trim().parse().ok()?;
        }
    }
    (content_length <= BODY_BYTES_MAX && is_safe(path) && is_safe_query(query)).then(|| Request {
        method,
        path: path.trim_start_matches('/').to_owned(),
        query: query.to_owned(),
        content_length,
        body: Vec::new(),
    })
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// Whether each part is a plain name: no `..`, nothing hidden, no escape.
fn is_safe(path: &str) -> bool {
    path.len() <= PATH_BYTES_MAX
        && path.strip_prefix('/').is_some_and(|path| {
            path.split('/').all(|name| {
                !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_name_byte)
            })
        })
}

fn is_safe_query(query: &str) -> bool {
    query.len() <= PATH_BYTES_MAX && query.bytes().all(|b| is_name_byte(b) || b == b'+')
}

/// Where `path`, one of a [`Request`], lies below `folder`; `None` if it
/// leads out, over a symbolic link for one.
pub(super) fn below(folder: &Path, path: &str) -> Option<PathBuf> {
    let folder = folder.canonicalize().ok()?;
    let resolved = folder.join(path).canonicalize().ok()?;
    resolved.starts_with(&folder).then_some(resolved)
}

/// Sends an answer with its length and its end.
///
/// # Errors
/// Of the peer.
pub(super) fn answer(stream: &mut TcpStream, status: Status, body: &[u8]) -> io::Result<()> {
    let (line, length) = (status.line(), body.len());
    let head = format!(
        "HTTP/1.0 {line}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

#[cfg(test)]
mod tests {
    use super::{Method, parse_head};

    #[test]
    fn odd_requests_are_refused() {
        for bad in [
            "",
            "GET",
            "GET /a",
            "GET a HTTP/1.0",
            "GET / HTTP/1.0",
            "GET //a HTTP/1.0",
            "GET /../a HTTP/1.0",
            "GET /a/../../b HTTP/1.0",
            "GET /.hidden HTTP/1.0",
            "GET /%2e%2e/a HTTP/1.0",
            "GET /a\0 HTTP/1.0",
            "GET /a HTTP/2",
            "GET /a HTTP/1.0 more",
            "GET /a HTTP/1.0\r\nno colon",
            "PUT /a HTTP/1.0",
            "POST /a HTTP/1.0\r\nContent-Length: 99999",
            "POST /a HTTP/1.0\r\nContent-Length: -1",
            "GET /a?b;c HTTP/1.0",
        ] {
            assert_eq!(parse_head(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn plain_request_is_understood() {
        let request = parse_head(b"POST /cgi/restore?a+b HTTP/1.0\r\ncontent-length: 3");
        let request = request.as_ref();
        assert_eq!(request.map(|r| r.method), Some(Method::Post));
        assert_eq!(request.map(|r| r.path.as_str()), Some("cgi/restore"));
        assert_eq!(request.map(|r| r.query.as_str()), Some("a+b"));
        assert_eq!(request.map(|r| r.content_length), Some(3));
    }
}
