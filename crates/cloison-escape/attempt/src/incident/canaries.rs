//! What a server keeps besides its files: one thing for every way in which a
//! neighbour could reach it, and the truth about each when it is asked.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{calls, guard};

const SEGMENT_BYTES: usize = 4096;
const COMMAND_TIMEOUT: Duration = Duration::from_millis(300);

/// One thing that was made, or the error number of the refusal.
type Made<T> = Result<T, i32>;

/// A unix socket that trusts whoever reaches it, as many a service does.
pub(super) struct Admin {
    pub(super) listener: UnixListener,
    wiped: bool,
}

/// The canaries of one server.
pub(super) struct Canaries {
    memory: Vec<u8>,
    segment: Made<calls::Segment>,
    semaphore: Made<i64>,
    messages: Made<i64>,
    queue: Made<i64>,
    pub(super) abstract_socket: Made<Admin>,
    pub(super) path_socket: Made<Admin>,
    guestbook: Vec<u8>,
    clerk: Made<Child>,
}

impl Canaries {
    /// Makes them. What the kernel or an enclosure does not let a server have
    /// is absent, and said so.
    pub(super) fn make(folder: &Path, clerk: &Path) -> Self {
        let pid = std::process::id();
        let text = |kind: &str| {
            let suffix = format!(" {kind} {pid}");
            [guard::CANARY, suffix.as_bytes()].concat()
        };
        let segment = calls::Segment::create(SEGMENT_BYTES).map(|mut segment| {
            segment.write(&text("segment"));
            segment
        });
        let queue = std::ffi::CString::new(format!("cloison-canary-{pid}"))
            .map_err(|_| 0)
            .and_then(|name| calls::create_queue(&name, &text("queue")));
        let abstract_socket = SocketAddr::from_abstract_name(format!("canary-{pid}"))
            .and_then(|address| UnixListener::bind_addr(&address));
        Self {
            memory: text("memory"),
            segment,
            semaphore: calls::create_semaphore(guard::SEMAPHORE),
            messages: calls::create_messages(&text("message")),
            queue,
            abstract_socket: admin(abstract_socket),
            path_socket: admin(UnixListener::bind(folder.join("run/admin"))),
            guestbook: text("guestbook"),
            clerk: Command::new(clerk)
                .arg("clerk")
                .stdin(Stdio::null())
                .spawn()
                .map_err(|error| error.raw_os_error().unwrap_or(0)),
        }
    }

    /// A line a canary: its name, then `intact`, `taken` or `absent` with the
    /// error number.
    pub(super) fn status(&mut self) -> String {
        let segment = self.segment.as_ref().map(calls::Segment::read);
        let all = [
            ("memory", Ok(guard::is_canary(black_box(&self.memory)))),
            (
                "shm",
                segment
                    .map(|content| guard::is_canary(&content))
                    .map_err(|e| *e),
            ),
            (
                "sem",
                self.semaphore
                    .map(|id| calls::semaphore(id) == Ok(guard::SEMAPHORE)),
            ),
            ("msg", self.messages.map(holds_message)),
            ("mqueue", self.queue.map(holds_in_queue)),
            ("abstract", is_whole(&self.abstract_socket)),
            ("path", is_whole(&self.path_socket)),
            ("port", Ok(guard::is_canary(&self.guestbook))),
            ("clerk", is_alive(&mut self.clerk)),
        ];
        all.map(|(name, state)| line(name, state)).concat()
    }

    pub(super) fn guestbook(&self) -> &[u8] {
        &self.guestbook
    }

    pub(super) fn sign_guestbook(&mut self, entry: Vec<u8>) {
        self.guestbook = entry;
    }
}

fn line(name: &str, state: Made<bool>) -> String {
    match state {
        Ok(true) => format!("{name} intact\n"),
        Ok(false) => format!("{name} taken\n"),
        Err(errno) => format!("{name} absent {errno}\n"),
    }
}

fn admin(listener: io::Result<UnixListener>) -> Made<Admin> {
    match listener {
        Ok(listener) => Ok(Admin {
            listener,
            wiped: false,
        }),
        Err(error) => Err(error.raw_os_error().unwrap_or(0)),
    }
}

fn is_whole(socket: &Made<Admin>) -> Made<bool> {
    match socket {
        Ok(admin) => Ok(!admin.wiped),
        Err(errno) => Err(*errno),
    }
}

/// A clerk is a process that does nothing but wait to be signalled.
fn is_alive(clerk: &mut Made<Child>) -> Made<bool> {
    match clerk {
        Ok(clerk) => Ok(matches!(clerk.try_wait(), Ok(None))),
        Err(errno) => Err(*errno),
    }
}

fn holds_message(id: i64) -> bool {
    calls::peek_message(id).is_ok_and(|text| guard::is_canary(&text))
}

/// Looks into the queue and puts back what was in it.
fn holds_in_queue(queue: i64) -> bool {
    let Ok(text) = calls::receive_from_queue(queue) else {
        return false;
    };
    calls::send_to_queue(queue, &text).is_ok() && guard::is_canary(&text)
}

impl Admin {
    /// Answers the next caller, who may only wipe the record.
    pub(super) fn answer(&mut self) -> io::Result<()> {
        let (mut stream, _) = self.listener.accept()?;
        stream.set_read_timeout(Some(COMMAND_TIMEOUT))?;
        stream.set_write_timeout(Some(COMMAND_TIMEOUT))?;
        stream.write_all(guard::CANARY)?;
        let mut command = [0; 5];
        stream.read_exact(&mut command)?;
        self.wiped |= command == *b"wipe\n";
        Ok(())
    }
}
