//! A relay between a socket outside and one in a server's own network
//! namespace.
//!
//! A server never holds a socket of another network namespace: a listener of
//! the host's could be disconnected and connected to a neighbour's loopback.
//! So the host accepts outside, and what it accepts is relayed to a socket
//! made inside. No thread is started here: [`run`] is for a thread that the
//! caller gives to it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};

/// The most connections relayed at a time; one more ends the one that was
/// silent longest.
const CONNECTIONS_MAX: usize = 64;
const BUFFER_BYTES: usize = 16 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a connection may stay silent on both sides.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a listener is left alone that cannot accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the rest of what a server wrote may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Moves the calling thread, and no other, into `network`.
///
/// # Errors
/// setns(2).
///
/// # Kernel
/// The caller has `CAP_SYS_ADMIN` over the namespace.
pub fn join_network(network: BorrowedFd<'_>) -> io::Result<()> {
    setns(network, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
}

/// A listening socket made inside `network`, for the server there. The
/// calling thread stays where it is.
///
/// # Errors
/// setns(2), bind(2), listen(2).
pub fn listen_inside(network: BorrowedFd<'_>, address: SocketAddr) -> io::Result<TcpListener> {
    let listen = || {
        join_network(network)?;
        TcpListener::bind(address)
    };
    thread::scope(|scope| scope.spawn(listen).join())
        .unwrap_or_else(|_panic| Err(io::ErrorKind::Other.into()))
}

/// Accepts on `outside` and relays each connection to `inside`, as the
/// calling thread's network namespace understands it, until `stop` can be
/// read or its other end closes. Then what the server has written is brought
/// to the clients that take it, for at most five seconds.
///
/// # Errors
/// poll(2). What one connection or one accept suffers ends that alone.
pub fn run(outside: &TcpListener, inside: SocketAddr, stop: BorrowedFd<'_>) -> io::Result<()> {
    outside.set_nonblocking(true)?;
    let mut pairs: Vec<Pair> = Vec::new();
    let mut pause_end = Instant::now();
    loop {
        let accepting = Instant::now() >= pause_end;
        if wait(outside, accepting, stop, &pairs)? {
            return drain(pairs);
        }
        if accepting {
            match outside.accept() {
                Ok((stream, _)) => {
                    make_room(&mut pairs);
                    // A server that does not answer costs its caller the connection.
                    pairs.extend(Pair::connect(stream, inside).ok());
                }
                Err(error) if is_passing(&error) => {}
                // As without descriptors: the connection stays in the queue.
                Err(_) => pause_end = Instant::now() + ACCEPT_PAUSE,
            }
        }
        pairs.retain_mut(Pair::advance);
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | Interrupted | WouldBlock)
}

/// Closes the connection that was silent longest, where there are too many.
fn make_room(pairs: &mut Vec<Pair>) {
    if pairs.len() < CONNECTIONS_MAX {
        return;
    }
    let silent = pairs.iter().enumerate();
    if let Some((at, _)) = silent.min_by_key(|(_, pair)| pair.last_moved) {
        pairs.swap_remove(at);
    }
}

/// Brings the clients what the server wrote before it ended.
fn drain(mut pairs: Vec<Pair>) -> io::Result<()> {
    let end = Instant::now() + DRAIN_TIMEOUT;
    while !pairs.is_empty() && Instant::now() < end {
        let mut waiting = Vec::new();
        wait_for(&mut waiting, &pairs);
        match poll(&mut waiting, PollTimeout::from(100_u16)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        drop(waiting);
        pairs.retain_mut(|pair| pair.advance() && !pair.outward.ended);
    }
    Ok(())
}

fn wait_for<'a>(waiting: &mut Vec<PollFd<'a>>, pairs: &'a [Pair]) {
    for pair in pairs {
        let (outside, inside) = pair.interest();
        for (stream, flags) in [(&pair.outside, outside), (&pair.inside, inside)] {
            // One that is waited for in vain would report its end for ever.
            if !flags.is_empty() {
                waiting.push(PollFd::new(stream.as_fd(), flags));
            }
        }
    }
}

/// Waits until something can be done; whether that is to stop.
fn wait(
    outside: &TcpListener,
    accepting: bool,
    stop: BorrowedFd<'_>,
    pairs: &[Pair],
) -> io::Result<bool> {
    let mut waiting = vec![PollFd::new(stop, PollFlags::POLLIN)];
    if accepting {
        waiting.push(PollFd::new(outside.as_fd(), PollFlags::POLLIN));
    }
    wait_for(&mut waiting, pairs);
    let timeout = if !accepting {
        PollTimeout::from(100_u16)
    } else if pairs.is_empty() {
        PollTimeout::NONE
    } else {
        PollTimeout::from(1000_u16)
    };
    match poll(&mut waiting, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let stopped = waiting.first().and_then(PollFd::revents);
    Ok(stopped.is_some_and(|events| !events.is_empty()))
}

/// One connection: both sockets, and what is on its way between them.
struct Pair {
    outside: TcpStream,
    inside: TcpStream,
    inward: Flow,
    outward: Flow,
    last_moved: Instant,
}

impl Pair {
    fn connect(outside: TcpStream, inside: SocketAddr) -> io::Result<Self> {
        let inside = TcpStream::connect_timeout(&inside, CONNECT_TIMEOUT)?;
        for stream in [&outside, &inside] {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
        }
        Ok(Self {
            outside,
            inside,
            inward: Flow::default(),
            outward: Flow::default(),
            last_moved: Instant::now(),
        })
    }

    /// What to wait for on the socket outside and on the one inside.
    fn interest(&self) -> (PollFlags, PollFlags) {
        let of = |reads: &Flow, writes: &Flow| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, reads.wants_more());
            flags.set(PollFlags::POLLOUT, writes.has_some());
            flags
        };
        (
            of(&self.inward, &self.outward),
            of(&self.outward, &self.inward),
        )
    }

    /// Moves what can be moved; whether the connection goes on.
    fn advance(&mut self) -> bool {
        let inward = self.inward.advance(&mut self.outside, &mut self.inside);
        let outward = self.outward.advance(&mut self.inside, &mut self.outside);
        let (Ok(inward), Ok(outward)) = (inward, outward) else {
            return false;
        };
        if inward || outward {
            self.last_moved = Instant::now();
        }
        let over = self.inward.ended && self.outward.ended;
        !over && self.last_moved.elapsed() < IDLE_TIMEOUT
    }
}

/// What is on its way in one direction.
#[derive(Default)]
struct Flow {
    buffer: Vec<u8>,
    sent: usize,
    /// The source has sent its last byte.
    dry: bool,
    /// The destination has been told so.
    ended: bool,
}

impl Flow {
    fn wants_more(&self) -> bool {
        !self.dry && self.buffer.is_empty()
    }

    fn has_some(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Moves what can be moved now; whether that was anything.
    fn advance(&mut self, from: &mut TcpStream, to: &mut TcpStream) -> io::Result<bool> {
        let mut moved = false;
        if self.wants_more() {
            let mut piece = vec![0; BUFFER_BYTES];
            if let Some(length) = unless_it_would_block(from.read(&mut piece))? {
                piece.truncate(length);
                self.dry = length == 0;
                self.buffer = piece;
                moved = true;
            }
        }
        while let Some(rest) = self.buffer.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let Some(length) = unless_it_would_block(to.write(rest))? else {
                break;
            };
            self.sent += length;
            moved = true;
        }
        if self.sent == self.buffer.len() {
            self.buffer.clear();
            self.sent = 0;
            if self.dry && !self.ended {
                self.ended = true;
                to.shutdown(Shutdown::Write)?;
            }
        }
        Ok(moved)
    }
}

fn unless_it_would_block(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(length) => Ok(Some(length)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};
    use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::thread;

    fn listener() -> io::Result<TcpListener> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
    }

    /// Answers one connection with all that it got.
    fn echo(server: &TcpListener) -> io::Result<()> {
        let (mut stream, _) = server.accept()?;
        let mut received = Vec::new();
        stream.read_to_end(&mut received)?;
        stream.write_all(&received)
    }

    fn ask(address: std::net::SocketAddr, sent: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(address)?;
        let mut writer = stream.try_clone()?;
        let mut received = Vec::new();
        thread::scope(|scope| {
            let sender = scope.spawn(move || {
                writer.write_all(sent)?;
                writer.shutdown(Shutdown::Write)
            });
            let read = stream.read_to_end(&mut received);
            let sent = sender.join().unwrap_or(Ok(()));
            sent.and(read)
        })?;
        Ok(received)
    }

    #[test]
    fn relay_brings_every_byte_both_ways_and_stops() -> io::Result<()> {
        let (outside, server) = (listener()?, listener()?);
        let (address, inside) = (outside.local_addr()?, server.local_addr()?);
        let (reader, writer) = io::pipe()?;
        let sent: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        thread::scope(|scope| {
            let relay = scope.spawn(|| super::run(&outside, inside, reader.as_fd()));
            let echo = scope.spawn(|| echo(&server));
            let received = ask(address, &sent);
            drop(writer);
            assert!(echo.join().is_ok_and(|done| done.is_ok()));
            assert!(relay.join().is_ok_and(|done| done.is_ok()));
            assert!(received? == sent);
            Ok(())
        })
    }

    #[test]
    fn server_that_is_gone_costs_only_the_connection() -> io::Result<()> {
        let outside = listener()?;
        let address = outside.local_addr()?;
        let gone = listener()?.local_addr()?;
        let (reader, writer) = io::pipe()?;
        thread::scope(|scope| {
            let relay = scope.spawn(|| super::run(&outside, gone, reader.as_fd()));
            for _ in 0..2 {
                let received = ask(address, b"");
                assert!(received.is_ok_and(|r| r.is_empty()));
            }
            drop(writer);
            assert!(relay.join().is_ok_and(|done| done.is_ok()));
            Ok(())
        })
    }
}
