//! Callers in a process of their own: a large one, and one on a host with
//! many mounts.

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::measure::Timed;
use crate::ours::{Common, Launch};

/// The argument of a process that plays such a caller: then its name, the
/// bytes that it holds, the mounts of its host, the root.
pub(crate) const ARGUMENT: &str = "--caller";

/// A caller in a process of its own.
pub(crate) struct Caller {
    process: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Caller {
    pub(crate) fn start(
        name: &str,
        bytes: usize,
        mounts: usize,
        root: &Path,
    ) -> Result<Self, Box<dyn Error>> {
        let mut process = Command::new("/proc/self/exe")
            .args([ARGUMENT, name, &bytes.to_string(), &mounts.to_string()])
            .arg(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ask = process.stdin.take();
        let answers = process.stdout.take().ok_or("no pipe to the caller")?;
        let mut caller = Self {
            process,
            ask,
            answers: BufReader::new(answers),
        };
        caller.line()?;
        Ok(caller)
    }

    pub(crate) fn launch(&mut self) -> Timed {
        let ask = self.ask.as_mut().ok_or("no pipe to the caller")?;
        ask.write_all(b"\n")?;
        Ok(Duration::from_nanos(self.line()?.trim().parse()?))
    }

    fn line(&mut self) -> Result<String, Box<dyn Error>> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err("the caller has ended".into());
        }
        Ok(line)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // Its input ends, and with it the process.
        self.ask = None;
        if let Err(error) = self.process.wait() {
            eprintln!("a caller could not be waited for: {error}");
        }
    }
}

/// Plays the caller that the arguments describe.
pub(crate) fn play(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [name, bytes, mounts, root] = arguments else {
        return Err("a caller wants name, bytes, mounts, root".into());
    };
    add_mounts(mounts.parse()?)?;
    // Not zeros: each page must be one of its own.
    let ballast = vec![1_u8; bytes.parse()?];
    let common = Common::new(Path::new(root), name)?;
    let mut launch = Launch::new(&common, name)?;
    launch.launch()?;
    println!("ready");
    for line in stdin().lines() {
        line?;
        println!("{}", launch.launch()?.as_nanos());
        stdout().flush()?;
    }
    black_box(&ballast);
    Ok(())
}

fn add_mounts(count: usize) -> Result<(), Box<dyn Error>> {
    if count == 0 {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    std::fs::create_dir_all("/tmp/mounts")?;
    for _ in 0..count {
        let kind = Some("tmpfs");
        mount(kind, "/tmp/mounts", kind, MsFlags::empty(), Some("size=4k"))?;
    }
    Ok(())
}
