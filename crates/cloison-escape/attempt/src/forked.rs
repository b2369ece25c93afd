//! What the spawner is there to avoid: a raw clone3 of a caller with many
//! threads, whose child allocates. Some other thread may hold the allocator's
//! lock at that moment, and nobody in the child will ever release it.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::report::CouldNotTry;
use crate::sys::{self, Errno, nr};

const THREADS: usize = 64;
const SIGCHLD: u64 = 17;
const WAIT4: usize = 61;
const WNOHANG: usize = 1;
/// As long may a child take that does nothing but allocate.
const DEADLINE: Duration = Duration::from_millis(500);
/// As many hangs are enough.
const HANGS_MAX: u32 = 3;

/// Clones `count` times; exits with 10 if a child hung, 0 if none did.
pub(crate) fn forked(arguments: &Arguments) -> Result<ExitCode, CouldNotTry> {
    let count: u32 = arguments.number("count")?;
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    allocate(number);
                }
            })
        })
        .collect();
    let (mut made, mut hung) = (0, 0);
    while made < count && hung < HANGS_MAX {
        made += 1;
        if !ends_in_time()? {
            hung += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        if thread.join().is_err() {
            return Err(CouldNotTry("a thread panicked".to_owned()));
        }
    }
    println!("{hung} of {made} children hung");
    Ok(ExitCode::from(if hung > 0 { 10 } else { 0 }))
}

fn allocate(size: usize) {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for step in 0..32_usize {
        kept.push(vec![1; 16 + size * 24 + step * 113]);
    }
    black_box(&kept);
}

/// Clones once; the watchdog ends a child that hangs.
fn ends_in_time() -> Result<bool, CouldNotTry> {
    // struct clone_args, its first version: flags, pidfd, child tid, parent
    // tid, exit signal, stack, its size, tls.
    let arguments: [u64; 8] = [0, 0, 0, 0, SIGCHLD, 0, 0, 0];
    let at = (&raw const arguments).expose_provenance();
    // SAFETY: the call reads the structure, which is on this frame. Without
    // CLONE_VM the child has memory of its own; that what it does next is no
    // more safe than it is in C is what this shows.
    let cloned = unsafe { sys::call(nr::CLONE3, [at, size_of_val(&arguments)]) };
    let child = match cloned {
        Ok(0) => {
            allocate(1);
            sys::exit(0)
        }
        Ok(child) => i32::try_from(child).unwrap_or(-1),
        Err(errno) => return Err(CouldNotTry(format!("clone3: {errno}"))),
    };
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
        // SAFETY: no pointer but null ones.
        match unsafe { sys::call(WAIT4, [sys::int(child), 0, WNOHANG, 0]) } {
            Ok(0) | Err(Errno(4)) => thread::yield_now(),
            _ => return Ok(true),
        }
    }
    sys::kill_own_child(child);
    sys::wait(child).map_err(|errno| CouldNotTry(format!("wait: {errno}")))?;
    Ok(false)
}
