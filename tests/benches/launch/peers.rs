//! Whole processes: `cloison run`, bubblewrap, runc and crun.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::bundle::{self, Root};
use crate::measure::Timed;

/// A command that is run again and again.
pub(crate) struct Whole {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// The same, with [`SPEAKING`] as the command.
    checked: Vec<String>,
}

/// What tells that a command is run at all: what does nothing would be fast.
const SPEAKING: [&str; 2] = ["/usr/bin/echo", "it runs"];
/// What of the host's root may be a link into `/usr`.
const LINKS: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Those names that are such links on this host.
pub(crate) fn links_into_usr() -> impl Iterator<Item = &'static str> {
    LINKS.into_iter().filter(|name| {
        let on_host = std::fs::read_link(format!("/{name}"));
        on_host.is_ok_and(|to| to.ends_with(format!("usr/{name}")))
    })
}

/// A runtime for containers.
#[derive(Clone, Copy)]
pub(crate) enum Runtime {
    Runc,
    Crun,
}

impl Runtime {
    fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }

    /// The arguments that run the container in `bundle`.
    pub(crate) fn arguments(self, bundle: &Path) -> Vec<String> {
        let mut arguments = vec!["--root".to_owned(), "/tmp/containers".to_owned()];
        arguments.push(match self {
            // The stage lends out no device but those of its own `/dev`, and
            // runc allows /dev/net/tun: so that it goes on where it may not.
            // It enters its cgroups all the same.
            Self::Runc => "--rootless=true".to_owned(),
            // It refuses hosts with hierarchies of both versions.
            Self::Crun => "--cgroup-manager=disabled".to_owned(),
        });
        let bundle = bundle.display().to_string();
        arguments.extend(["run", "--bundle", &bundle, "bench"].map(str::to_owned));
        arguments
    }
}

/// What both run: dynamic, and in every root that shows the host's `/usr`.
const COMMAND: &str = "/usr/bin/true";

impl Whole {
    /// The launcher, beside which this benchmark was built; `host` is its
    /// `host.toml`.
    pub(crate) fn cloison(host: &str) -> Result<Self, String> {
        let options = ["run", "--host", host, "--"].map(str::to_owned).to_vec();
        Self::checked(Self::launcher()?, options)
    }

    /// The launcher of this profile.
    pub(crate) fn launcher() -> Result<PathBuf, String> {
        let own = env::var_os("CLOISON_LAUNCHER").map(PathBuf::from);
        let beside = || {
            let program = env::current_exe().ok()?;
            let profile = program.parent()?.parent()?;
            Some(profile.join("cloison"))
        };
        let program = own.or_else(beside).filter(|program| program.is_file());
        program.ok_or_else(|| "the launcher is not built in this profile".to_owned())
    }

    /// A program that takes its command behind `options`.
    fn checked(program: PathBuf, options: Vec<String>) -> Result<Self, String> {
        let with = |command: &[&str]| {
            let command = command.iter().map(|word| (*word).to_owned());
            options.iter().cloned().chain(command).collect()
        };
        let (arguments, checked) = (with(&[COMMAND]), with(&SPEAKING));
        Self {
            program,
            arguments,
            checked,
        }
        .that_runs()
    }

    /// runc or crun, with the same binds and what Docker gives a container.
    pub(crate) fn container(runtime: Runtime, seccomp: Option<&Value>) -> Result<Self, String> {
        let kind = if seccomp.is_some() {
            "filtered"
        } else {
            "bare"
        };
        let at = Path::new("/tmp/bundles").join(format!("{}-{kind}", runtime.name()));
        let bundle = |name: &str, command: &[&str]| {
            let at = at.join(name);
            bundle::make(&at, Root::HostsUsr, command, seccomp)
                .map(|()| runtime.arguments(&at))
                .map_err(|error| format!("making a bundle: {error}"))
        };
        Self {
            program: runtime.name().into(),
            arguments: bundle("run", &[COMMAND])?,
            checked: bundle("check", &SPEAKING)?,
        }
        .that_runs()
    }

    /// bubblewrap, with the same binds.
    pub(crate) fn bubblewrap() -> Result<Self, String> {
        let mut arguments: Vec<String> = [
            "--unshare-all",
            "--new-session",
            "--die-with-parent",
            "--cap-drop",
            "ALL",
            "--ro-bind",
            "/usr",
            "/usr",
        ]
        .map(str::to_owned)
        .to_vec();
        for name in links_into_usr() {
            let link = [
                "--symlink".to_owned(),
                format!("usr/{name}"),
                format!("/{name}"),
            ];
            arguments.extend(link);
        }
        if Path::new("/etc/alternatives").is_dir() {
            let path = "/etc/alternatives";
            arguments.extend(["--ro-bind", path, path].map(str::to_owned));
        }
        arguments.extend(
            [
                "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run",
            ]
            .map(str::to_owned),
        );
        Self::checked("bwrap".into(), arguments)
    }

    /// The same, if it runs its command.
    fn that_runs(self) -> Result<Self, String> {
        let name = self.program.display();
        let output = Command::new(&self.program)
            .args(&self.checked)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{name}: {error}"))?;
        if output.status.success() && output.stdout == b"it runs\n" {
            return Ok(self);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "{name} does not run: {}: {}",
            output.status,
            said.trim()
        ))
    }

    /// The same program, which only says its version.
    pub(crate) fn only_started(&self) -> Self {
        Self {
            program: self.program.clone(),
            arguments: vec!["--version".to_owned()],
            checked: Vec::new(),
        }
    }

    /// The command line, and what the program says of its version.
    pub(crate) fn describe(&self) -> String {
        let version = Command::new(&self.program)
            .arg("--version")
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default();
        let version = version.lines().next().unwrap_or_default();
        let name = self.program.file_name().unwrap_or_default();
        format!(
            "{} {} ({version})",
            name.to_string_lossy(),
            self.arguments.join(" ")
        )
    }

    pub(crate) fn launch(&self) -> Timed {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let begun = Instant::now();
        let output = command.spawn()?.wait_with_output()?;
        let time = begun.elapsed();
        if output.status.success() {
            return Ok(time);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let error: Box<dyn Error> = format!("{}: {}", output.status, said.trim()).into();
        Err(error)
    }
}
