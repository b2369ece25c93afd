//! What can be typed: the one definition that the parser, the help, the man
//! pages and the completions are made of.

pub(crate) mod servers;
pub(crate) mod tenants;
pub(crate) mod trees;

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::builder::EnumValueParser;
use clap::{Arg, ArgAction, Args, Command, Parser, Subcommand};
use clap_complete::Shell;
use cloison::TenantName;
use cloison_sandbox::SandboxName;
use nix::sys::signal::Signal;

/// Run programs in sandboxes that cannot reach each other.
#[derive(Debug, Parser)]
#[command(
    name = "cloison",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "\
Examples:
  cloison check                      Can this host start a sandbox?
  cloison run /usr/bin/id            Run a program of the host's /usr
  cloison run hello.toml             Run what a file describes
  cloison inspect web                What encloses the sandbox `web`?
  cloison exec web -- sh             A shell beside its command
  cloison freeze web                 Let nothing in it run, until `thaw`
  cloison stop web                   End it
  cloison tenant add acme            Give a client ids and storage of its own
  cloison up examples/server.toml    Start a tenant's server, and leave it
  cloison ps                         Which servers there are, and how they are"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Check(Check),
    Run(Box<Run>),
    Inspect(Inspect),
    Exec(Box<Exec>),
    Stop(Stop),
    Freeze(Freeze),
    Thaw(Thaw),
    Tenant(tenants::Tenant),
    Tree(trees::Tree),
    Up(servers::Up),
    Down(servers::Down),
    Ps(servers::Ps),
    Completions(Completions),
    Man(Man),
}

/// Say layer by layer whether this host can start sandboxes
///
/// Every feature of the kernel that a layer needs is tried, and the result
/// used; the version of the kernel decides nothing. The pool of ids is compared
/// with the host's own users, groups and subordinate ids.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit code:
  0  a sandbox can be started
  1  a layer cannot be had, or the pool of ids clashes with the host's own ids
  125  the question could not be answered

Examples:
  cloison check
  cloison check --host examples/host.toml
  cloison check --json")]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) host: Host,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Run a command in a sandbox, in the foreground
///
/// FILE.toml describes a sandbox; what is given on the command line goes before
/// it. The first word that is not an option is FILE.toml if it ends in `.toml`,
/// else it begins COMMAND, and all that follows belongs to COMMAND. A word that
/// ends in `.toml` and is meant as COMMAND comes after `--`.
///
/// A COMMAND without a slash is looked for inside the sandbox's root in
/// /usr/local/sbin, /usr/local/bin, /usr/sbin, /usr/bin, /sbin and /bin, in this
/// order, whatever PATH says.
///
/// Without FILE.toml the environment holds HOME, PATH and, on a terminal, TERM.
/// With one it holds what the file names. `--env` adds to both.
///
/// When input and output are a terminal, the sandbox gets a terminal of its own,
/// and what it writes reaches yours as it is, control sequences included. Else
/// each stream is relayed through a pipe. No descriptor of yours is handed in.
///
/// The signals INT, TERM, HUP, QUIT, USR1 and USR2 are handed on to the command.
#[derive(Args, Debug)]
#[command(
    override_usage = "cloison run [FILE.toml] [OPTIONS] [--] COMMAND...\n       cloison run FILE.toml [OPTIONS]",
    after_help = "\
Exit code:
  that of the command, 128 + n if signal n ended it
  125  the sandbox could not be started, or output was lost; the message names
       layer and step
  126  the command cannot be executed
  127  the command was not found

Examples:
  cloison run ls -l /
  cloison run examples/hello.toml
  cloison run examples/hello.toml --env GREETING=Salut
  cloison run --root /srv/web --name web -- /bin/server --verbose
  cloison run examples/web.toml --listen 127.0.0.1:8080"
)]
pub(crate) struct Run {
    /// Describe the sandbox: name, command, root, limits and so on
    #[arg(value_name = "FILE.toml")]
    pub(crate) file: Option<PathBuf>,
    /// Use this directory as the root, read-only, instead of the host's /usr
    ///
    /// It must hold the directories proc, dev, tmp and run.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Accept connections here and relay them to a listening socket inside
    ///
    /// The socket is made in the sandbox's own network, on the same port of
    /// 127.0.0.1, and handed in as descriptor 3 (LISTEN_FDS). ADDR is
    /// ADDRESS:PORT, or a PORT of 127.0.0.1. Port 0 takes a free one and says
    /// which. May be given more than once: descriptors 3, 4 and so on, one for
    /// each port. At most 64 connections of each ADDR are relayed: one more ends
    /// the one that was silent longest, and 60 s of silence end any. After the
    /// command ended, what it wrote is delivered for up to 5 s.
    #[arg(long, value_name = "ADDR", value_parser = listen_address)]
    pub(crate) listen: Vec<SocketAddr>,
    /// Set a variable in the environment of the command
    #[arg(long, value_name = "K=V", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Name the sandbox: host name, cgroup and record
    #[arg(long, value_parser = name)]
    pub(crate) name: Option<SandboxName>,
    #[command(flatten)]
    pub(crate) host: Host,
    #[command(flatten)]
    pub(crate) state: State,
    /// Say at the end, as one line of JSON on standard error, how it ended
    ///
    /// The name, the process id, the exit code and what was waived; or an error
    /// of ours, what caused it and what to do.
    #[arg(long)]
    pub(crate) json: bool,
    /// Run this instead of the file's command
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// Say what encloses a process, read anew
///
/// Each field says how it is known: read from the kernel now; self-reported, by
/// the sandbox before it ran anything foreign; or unreadable, and why. A PID may
/// be any process, also one without a sandbox.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit code:
  0  the process was looked at
  1  there is no such process, or no running sandbox of this name
  125  it could not be looked at

Examples:
  cloison inspect web
  cloison inspect 1
  cloison inspect --json web")]
pub(crate) struct Inspect {
    /// A process id, the name of a sandbox that runs, or TENANT/SERVER
    #[arg(value_name = "PID|NAME", value_parser = target)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) state: State,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Start a second command in a running sandbox
///
/// The sandbox's init makes it, in the same enclosure; no process of the host
/// enters. The sandbox's own command cannot see, trace or read it, but it can
/// signal it, and both share files. What an earlier `exec` started, and still
/// runs, can read it, environment included: in a sandbox whose files a tenant
/// controls, hand no secret in and type none. A COMMAND without a slash is looked for
/// inside, in /usr/local/sbin, /usr/local/bin, /usr/sbin, /usr/bin, /sbin and /bin.
///
/// When input and output are a terminal, it gets a terminal of its own; else each
/// stream is relayed through a pipe. The signals INT, TERM, HUP, QUIT, USR1 and
/// USR2 are handed on. When this program ends before it, it gets HUP. When COMMAND
/// has ended and something that it started still holds its output, that is not
/// waited for longer than 3 s.
///
/// A sandbox with `init = "off"` has nobody who could start one.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit code:
  that of the command, 128 + n if signal n ended it
  1    no sandbox of this name runs
  125  it could not be started, or output was lost; the message says why
  126  the command cannot be executed
  127  the command was not found

Examples:
  cloison exec web -- sh
  cloison exec web --directory /tmp --env LANG=C.UTF-8 -- ls -l")]
pub(crate) struct Exec {
    /// The name of a sandbox that runs, or TENANT/SERVER
    pub(crate) name: servers::Name,
    /// Set a variable in the environment of the command
    ///
    /// Else it holds HOME, PATH and, on a terminal, TERM.
    #[arg(long, value_name = "K=V", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Start in this directory of the sandbox
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) directory: PathBuf,
    #[command(flatten)]
    pub(crate) state: State,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// End a sandbox
///
/// Its command gets a signal. What has not ended in time is killed, with every
/// process in the sandbox. A frozen sandbox is not let run to hear a signal: it
/// is killed at once. What a dead launcher left is removed, too, and what is left of
/// a server that had ended by itself. A server stays written down: `down` strikes it
/// out.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit code:
  0  nothing of it runs any more
  1  no sandbox of this name runs
  125  it could not be ended

Examples:
  cloison stop web
  cloison stop web --signal QUIT --timeout-s 60
  cloison stop web --timeout-s 0")]
pub(crate) struct Stop {
    /// The name of a sandbox that runs, or TENANT/SERVER
    pub(crate) name: servers::Name,
    /// The signal that its command gets
    #[arg(long, default_value = "TERM", value_parser = signal)]
    pub(crate) signal: Signal,
    /// How many seconds it has to end; 0: it is killed at once
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(..=86_400))]
    pub(crate) timeout_s: u32,
    #[command(flatten)]
    pub(crate) state: State,
}

/// Let nothing in a sandbox run, until `thaw`
///
/// It comes back when every process of it stands still. Its sockets stay open:
/// what is sent to them waits.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit code:
  0  every process in it stands still
  1  no sandbox of this name runs
  125  it could not be frozen: some of it may run")]
pub(crate) struct Freeze {
    /// The name of a sandbox that runs, or TENANT/SERVER
    pub(crate) name: servers::Name,
    #[command(flatten)]
    pub(crate) state: State,
}

/// Let a frozen sandbox run again
#[derive(Args, Debug)]
#[command(after_help = "\
Exit code:
  0  it runs, as it did before if it was not frozen
  1  no sandbox of this name runs
  125  it could not be thawed")]
pub(crate) struct Thaw {
    /// The name of a sandbox that runs, or TENANT/SERVER
    pub(crate) name: servers::Name,
    #[command(flatten)]
    pub(crate) state: State,
}

/// Write the completions for a shell to standard output
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  cloison completions bash > /usr/share/bash-completion/completions/cloison")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_parser = EnumValueParser::<Shell>::new())]
    pub(crate) shell: Shell,
}

/// Write the man pages into a directory
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  cloison man /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// An existing directory
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Host {
    /// Read the host's settings here: which layers it goes without, and why
    ///
    /// Without it, /etc/cloison/host.toml counts if it exists.
    #[arg(id = "host", long = "host", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct State {
    /// Keep records and locks of what runs here
    ///
    /// Sandboxes on one host share the pool of ids, so they must share this too.
    #[arg(
        id = "state",
        long = "state",
        value_name = "DIR",
        default_value = cloison::runtime::DEFAULT
    )]
    pub(crate) directory: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Format {
    /// Write JSON
    #[arg(long, action = ArgAction::SetTrue)]
    pub(crate) json: bool,
}

/// What is inspected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Pid(i32),
    Name(servers::Name),
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse()
        .map_err(|_| "ADDR is ADDRESS:PORT, as 127.0.0.1:8080 or [::1]:8080, or a PORT".to_owned())
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a variable is given as K=V".to_owned()),
    }
}

fn signal(text: &str) -> Result<Signal, String> {
    let upper = text.to_ascii_uppercase();
    let number = text.parse::<i32>().ok();
    number
        .map_or_else(
            || format!("SIG{}", upper.trim_start_matches("SIG")).parse(),
            Signal::try_from,
        )
        .map_err(|_| "a signal is a name, as TERM, or a number from 1 to 31".to_owned())
}

fn name(text: &str) -> Result<SandboxName, String> {
    SandboxName::new(text).map_err(|error| error.to_string())
}

fn tenant_name(text: &str) -> Result<TenantName, String> {
    TenantName::new(text).map_err(|error| error.to_string())
}

fn target(text: &str) -> Result<Target, String> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return match text.parse() {
            Ok(pid) if pid > 0 => Ok(Target::Pid(pid)),
            _ => Err("a process id is a number from 1 to 2147483647".to_owned()),
        };
    }
    text.parse().map(Target::Name)
}

/// The arguments as the parser wants them: a `--` before the COMMAND of `run`
/// that has none, so that its own options are not taken for ours.
pub(crate) fn separated(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.get(1).is_some_and(|verb| verb == "run") {
        // Only the one verb: the whole definition takes a while to build.
        let run = Run::augment_args(Command::new("run"));
        if let Some(at) = command_begins(&run, &arguments) {
            arguments.insert(at, "--".into());
        }
    }
    arguments
}

/// Where COMMAND begins, unless a `--` says so or there is none.
fn command_begins(run: &Command, arguments: &[OsString]) -> Option<usize> {
    let takes_value = |word: &OsStr| {
        let word = word.to_str().and_then(|word| word.strip_prefix("--"));
        word.is_some_and(|long| {
            run.get_arguments()
                .find(|arg| arg.get_long() == Some(long))
                .is_some_and(|arg: &Arg| arg.get_action().takes_values())
        })
    };
    let mut at = 2;
    let mut has_file = false;
    while let Some(word) = arguments.get(at) {
        if word == "--" {
            return None;
        }
        if word.as_encoded_bytes().starts_with(b"-") && word.len() > 1 {
            at += if takes_value(word) { 2 } else { 1 };
        } else if !has_file && is_file(word) {
            has_file = true;
            at += 1;
        } else {
            return Some(at);
        }
    }
    None
}

fn is_file(word: &OsStr) -> bool {
    Path::new(word).extension().is_some_and(|end| end == "toml")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_of_the_command_stay_its_own() {
        for (typed, wanted) in [
            ("cloison run ls -l", "cloison run -- ls -l"),
            ("cloison run a.toml", "cloison run a.toml"),
            ("cloison run a.toml ls -l", "cloison run a.toml -- ls -l"),
            ("cloison run a.toml b.toml", "cloison run a.toml -- b.toml"),
            (
                "cloison run --name x a.toml --env A=1 --env=B=2 ls --name y",
                "cloison run --name x a.toml --env A=1 --env=B=2 -- ls --name y",
            ),
            (
                "cloison run --name x -- a.toml",
                "cloison run --name x -- a.toml",
            ),
            ("cloison run ls -- -l", "cloison run -- ls -- -l"),
            ("cloison check --json", "cloison check --json"),
        ] {
            assert_eq!(separated(words(typed)), words(wanted), "{typed}");
        }
    }

    #[test]
    fn number_is_a_process_and_a_word_is_a_name() {
        assert_eq!(target("12"), Ok(Target::Pid(12)));
        assert!(matches!(target("web"), Ok(Target::Name(_))));
        for bad in ["0", "-1", "99999999999", "1a", "Web", ""] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signal_is_a_name_or_a_number() {
        for good in ["TERM", "SIGTERM", "term", "15"] {
            assert_eq!(signal(good), Ok(Signal::SIGTERM), "{good}");
        }
        for bad in ["", "SIG", "NOSUCH", "0", "99", "-1"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn port_alone_is_one_of_this_host() {
        assert_eq!(
            listen_address("8080"),
            Ok((Ipv4Addr::LOCALHOST, 8080).into())
        );
        assert!(listen_address("[::1]:80").is_ok());
        assert!(listen_address("localhost:80").is_err());
        assert!(listen_address("70000").is_err());
    }
}
