//! A terminal of the sandbox's own, and the operator's.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use cloison_tests::Outcome;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;

use super::ground::{Running, cloison, run};

/// An operator's terminal with a launcher on it.
struct Desk {
    screen: File,
    line: OwnedFd,
    before: Termios,
    launcher: Child,
    seen: String,
}

impl Desk {
    fn start(script: &str) -> Self {
        Self::on(&run(&["sh", "-c", script]))
    }

    fn on(bare: &Command) -> Self {
        let size = Winsize {
            ws_row: 31,
            ws_col: 97,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).unwrap();
        let side = || Stdio::from(pty.slave.try_clone().unwrap());
        // The terminal is the launcher's own, so that it hears of sizes.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(bare.get_program());
        command.args(bare.get_args()).env("TERM", "dumb");
        command.stdin(side()).stdout(side()).stderr(side());
        let before = tcgetattr(&pty.slave).unwrap();
        let launcher = command.spawn().unwrap();
        Self {
            screen: File::from(pty.master),
            line: pty.slave,
            before,
            launcher,
            seen: String::new(),
        }
    }

    /// Reads until `text` is on the screen.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let mut buffer = [0; 1024];
        while !self.seen.contains(text) {
            match self.screen.read(&mut buffer) {
                Ok(0) => panic!("{text:?} is missing in {:?}", self.seen),
                Ok(length) => self.seen += &String::from_utf8_lossy(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{text:?} is missing in {:?}: {error}", self.seen),
            }
        }
    }

    fn type_in(&mut self, keys: &[u8]) {
        self.screen.write_all(keys).unwrap();
    }

    /// Waits for this end, with the terminal as it was before.
    #[track_caller]
    fn ends(mut self, code: i32) {
        let status = self.launcher.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{:?}", self.seen);
        let after = tcgetattr(&self.line).unwrap();
        assert_eq!(after, self.before, "the terminal stayed changed");
    }
}

pub(crate) fn own() -> Outcome {
    let mut desk = Desk::start(
        "for n in 0 1 2; do test -t $n || echo $n is none; done; tty; echo $TERM; \
         read line; echo \"got $line\"; exit 5",
    );
    desk.wait_for("/dev/pts/0\r\ndumb\r\n");
    assert!(!desk.seen.contains("is none"), "{:?}", desk.seen);
    let during = tcgetattr(&desk.line).unwrap();
    assert_ne!(during, desk.before, "the terminal is not raw");
    desk.type_in(b"hello\r");
    desk.wait_for("got hello\r\n");
    desk.ends(5);
    Outcome::Passed
}

pub(crate) fn size() -> Outcome {
    let mut desk = Desk::start(
        "trap 'stty size; exit 7' WINCH; stty size; echo ready; while :; do sleep 0.02; done",
    );
    desk.wait_for("31 97\r\nready");
    let status = Command::new("stty")
        .args(["rows", "41", "cols", "111"])
        .stdin(desk.line.try_clone().unwrap())
        .status();
    assert!(status.unwrap().success());
    desk.wait_for("41 111");
    desk.ends(7);
    Outcome::Passed
}

pub(crate) fn interrupt() -> Outcome {
    let mut desk =
        Desk::start("trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.02; done");
    desk.wait_for("ready");
    desk.type_in(b"\x03");
    desk.wait_for("caught");
    desk.ends(9);
    Outcome::Passed
}

pub(crate) fn ended() -> Outcome {
    let mut desk = Desk::start("echo ready; exec sleep 600");
    desk.wait_for("ready");
    kill(
        Pid::from_raw(desk.launcher.id().cast_signed()),
        Signal::SIGTERM,
    )
    .unwrap();
    desk.ends(128 + 15);
    Outcome::Passed
}

/// The same through `exec`: a terminal, its size, its keys.
pub(crate) fn of_exec() -> Outcome {
    let running = Running::named("desk", &["sleep", "1000"]);
    let mut typed = cloison(&["exec", "desk", "--"]);
    typed.args([
        "sh",
        "-c",
        "trap 'stty size; exit 7' INT; test -t 0 && echo $TERM; read line; echo got $line; \
         ls /dev/pts; while :; do sleep 0.02; done",
    ]);
    let mut desk = Desk::on(&typed);
    desk.wait_for("dumb\r\n");
    let during = tcgetattr(&desk.line).unwrap();
    assert_ne!(during, desk.before, "the terminal is not raw");
    desk.type_in(b"hello\r");
    // Its own terminal is in no devpts of the sandbox's.
    desk.wait_for("got hello\r\nptmx\r\n");
    desk.type_in(b"\x03");
    desk.wait_for("31 97\r\n");
    desk.ends(7);
    running.terminate().wants(143, &[]);
    Outcome::Passed
}
