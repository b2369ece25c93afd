//! A tenant's server: its files over HTTP, its canaries, and the hole that
//! the incident comes through, a folder of programs that requests may start.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use super::canaries::{Admin, Canaries};
use super::http::{self, Method, Request, Status};
use super::{calls, could_not_begin};

const FILE_BYTES_MAX: u64 = 1 << 20;
const PROGRAMS_MAX: usize = 4;
/// A descriptor that is never ready: a canary that is absent.
const NONE: i32 = -1;

struct Server {
    folder: PathBuf,
    canaries: Canaries,
    programs: Vec<Child>,
}

/// Serves the files below `folder` on the socket handed in, one request after
/// the other, until it is ended.
pub(super) fn serve(folder: &str, clerk: &str) -> ExitCode {
    if std::env::var("LISTEN_FDS").as_deref() != Ok("1") {
        return could_not_begin("serve", "LISTEN_FDS is not 1: no socket was handed in");
    }
    let folder = PathBuf::from(folder);
    let mut server = Server {
        canaries: Canaries::make(&folder, Path::new(clerk)),
        folder,
        programs: Vec::new(),
    };
    let listener = calls::listener_handed_in();
    loop {
        if let Err(error) = server.answer_next(&listener) {
            // A peer that goes away is no reason to end, a lost socket is.
            if error.kind() == io::ErrorKind::NotConnected {
                return could_not_begin("serve", &error.to_string());
            }
        }
    }
}

impl Server {
    fn answer_next(&mut self, listener: &TcpListener) -> io::Result<()> {
        let descriptor = |socket: &Result<Admin, i32>| {
            socket
                .as_ref()
                .map_or(NONE, |admin| admin.listener.as_raw_fd())
        };
        let waiting = [
            listener.as_raw_fd(),
            descriptor(&self.canaries.abstract_socket),
            descriptor(&self.canaries.path_socket),
        ];
        let ready = calls::readable(waiting, -1);
        let [http, in_abstract, in_path] = match ready {
            Ok(ready) => ready,
            Err(calls::EINTR) => return Ok(()),
            Err(_) => return Err(io::ErrorKind::NotConnected.into()),
        };
        if in_abstract && let Ok(admin) = &mut self.canaries.abstract_socket {
            admin.answer()?;
        }
        if in_path && let Ok(admin) = &mut self.canaries.path_socket {
            admin.answer()?;
        }
        if http {
            let (mut stream, _) = listener.accept()?;
            self.answer_http(&mut stream)?;
        }
        Ok(())
    }

    fn answer_http(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        let request = match http::read_request(stream) {
            Ok(request) => request,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return http::answer(stream, Status::BadRequest, b"");
            }
            Err(error) => return Err(error),
        };
        let (status, body) = match (request.method, request.path.as_str()) {
            (Method::Get, "canaries") => (Status::Ok, self.canaries.status().into_bytes()),
            (Method::Get, "guestbook") => (Status::Ok, self.canaries.guestbook().to_vec()),
            (Method::Post, "guestbook") => {
                self.canaries.sign_guestbook(request.body);
                (Status::Accepted, Vec::new())
            }
            (Method::Get, path) if path.starts_with("cgi/") => self.start_program(&request),
            (Method::Get, path) => read_file(&self.folder, path),
            (Method::Post, _) => (Status::NotFound, Vec::new()),
        };
        http::answer(stream, status, &body)
    }

    /// Starts a program of the folder `cgi`, with the words of the query as
    /// its arguments (RFC 3875, 4.4), and does not wait for it.
    fn start_program(&mut self, request: &Request) -> (Status, Vec<u8>) {
        self.programs
            .retain_mut(|program| matches!(program.try_wait(), Ok(None)));
        let Some(path) = http::below(&self.folder, &request.path) else {
            return (Status::NotFound, Vec::new());
        };
        if self.programs.len() >= PROGRAMS_MAX {
            return (Status::ServerError, b"too many programs run\n".to_vec());
        }
        let started = File::create(self.folder.join("log/cgi")).and_then(|log| {
            Command::new(path)
                .args(request.query.split('+'))
                .current_dir(&self.folder)
                .stdin(Stdio::null())
                .stdout(log)
                .stderr(Stdio::null())
                .spawn()
        });
        match started {
            Ok(program) => {
                self.programs.push(program);
                (Status::Accepted, Vec::new())
            }
            Err(error) => (Status::ServerError, error.to_string().into_bytes()),
        }
    }
}

fn read_file(folder: &Path, path: &str) -> (Status, Vec<u8>) {
    let mut content = Vec::new();
    let read = http::below(folder, path)
        .filter(|path| fs::metadata(path).is_ok_and(|metadata| metadata.is_file()))
        .and_then(|path| File::open(path).ok())
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut content).ok());
    match read {
        Some(_) => (Status::Ok, content),
        None => (Status::NotFound, Vec::new()),
    }
}
