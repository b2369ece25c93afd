//! Whole processes: `cloison run` against bubblewrap.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::measure::Timed;

/// A command that is run again and again.
pub(crate) struct Whole {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
}

/// What both run: dynamic, and in every root that shows the host's `/usr`.
const COMMAND: &str = "/usr/bin/true";

impl Whole {
    /// The launcher, beside which this benchmark was built; `host` is its
    /// `host.toml`.
    pub(crate) fn cloison(host: &str) -> Result<Self, String> {
        let own = env::var_os("CLOISON_LAUNCHER").map(PathBuf::from);
        let beside = || {
            let program = env::current_exe().ok()?;
            let profile = program.parent()?.parent()?;
            Some(profile.join("cloison"))
        };
        let program = own
            .or_else(beside)
            .filter(|program| program.is_file())
            .ok_or("the launcher is not built in this profile")?;
        let whole = Self {
            program,
            arguments: ["run", "--host", host, "--", COMMAND]
                .map(str::to_owned)
                .to_vec(),
        };
        whole
            .check()
            .map_err(|error| format!("the launcher does not run: {error}"))?;
        Ok(whole)
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
        for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            let target = format!("usr/{name}");
            let on_host = std::fs::read_link(format!("/{name}"));
            if on_host.is_ok_and(|to| to.ends_with(&target)) {
                arguments.extend(["--symlink".to_owned(), target, format!("/{name}")]);
            }
        }
        if Path::new("/etc/alternatives").is_dir() {
            let path = "/etc/alternatives";
            arguments.extend(["--ro-bind", path, path].map(str::to_owned));
        }
        arguments.extend(
            [
                "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run", COMMAND,
            ]
            .map(str::to_owned),
        );
        let whole = Self {
            program: "bwrap".into(),
            arguments,
        };
        whole
            .check()
            .map_err(|error| format!("bubblewrap does not run: {error}"))?;
        Ok(whole)
    }

    /// Whether a command is run at all: what does nothing would be fast.
    fn check(&self) -> Result<(), Box<dyn Error>> {
        let (_, options) = self.arguments.split_last().ok_or("no command")?;
        let output = Command::new(&self.program)
            .args(options)
            .args(["/usr/bin/echo", "it runs"])
            .stdin(Stdio::null())
            .output()?;
        if output.status.success() && output.stdout == b"it runs\n" {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{}: {}", output.status, said.trim()).into())
    }

    /// The command line, and what the program says of its version.
    pub(crate) fn describe(&self) -> String {
        let version = Command::new(&self.program)
            .arg("--version")
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
            .unwrap_or_default();
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
