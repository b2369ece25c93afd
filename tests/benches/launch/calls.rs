//! What a system call costs inside, beside outside and a container of runc's
//! with Docker's default profile.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cloison_sandbox::{ExitStatus, Io, Layer, Plan, Prepared, SandboxName, Streams, Weakening};
use cloison_tests::noisy::all_allowed;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::bundle::{self, Root};
use crate::noop;
use crate::ours::Common;
use crate::peers::{Runtime, Whole};

const ROOT: &str = "/tmp/calls";
const CALLS: [&str; 6] = ["getppid", "read", "ioctl", "socket", "openat", "clone+wait"];
const BUNDLE: &str = "/tmp/bundles/calls";
const COMMAND: [&str; 4] = ["/attempt", "costs", "count=20000", "rounds=5"];
/// The layers that a call passes through each time. Docker has the first alone.
const ON_THE_WAY: [Layer; 3] = [
    Layer::Seccomp,
    Layer::SpeculationControl,
    Layer::LandlockFiles,
];

/// A place where calls are timed.
struct Place<'a> {
    name: String,
    way: Way<'a>,
    /// For each call, the nanoseconds of each run.
    times: BTreeMap<&'static str, Vec<f64>>,
}

/// How the program comes to that place.
enum Way<'a> {
    /// Behind another program.
    Behind(PathBuf, Vec<String>),
    /// By the library, without a layer.
    Without(&'a Common, Layer),
    /// By the library, with a filter that allows everything: the kernel
    /// remembers that it need not ask.
    AllowingAll(&'a Common),
}

impl<'a> Place<'a> {
    fn new(name: impl Into<String>, way: Way<'a>) -> Self {
        Self {
            name: name.into(),
            way,
            times: BTreeMap::new(),
        }
    }

    fn time(&mut self) -> Result<(), Box<dyn Error>> {
        let said = self.way.run()?;
        for call in CALLS {
            let mut lines = said.lines().filter_map(|line| line.split_once(' '));
            let Some((_, time)) = lines.find(|(name, _)| *name == call) else {
                return Err(format!("{}: no time of {call}: {said}", self.name).into());
            };
            self.times.entry(call).or_default().push(time.parse()?);
        }
        Ok(())
    }

    fn median(&self, call: &str) -> f64 {
        let mut times = self.times.get(call).cloned().unwrap_or_default();
        times.sort_unstable_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl Way<'_> {
    fn run(&self) -> Result<String, Box<dyn Error>> {
        match self {
            Self::Behind(program, arguments) => {
                let output = Command::new(program)
                    .args(arguments)
                    .stdin(Stdio::null())
                    .output()?;
                let texts = [&output.stdout, &output.stderr];
                Ok(texts.map(|text| String::from_utf8_lossy(text)).concat())
            }
            Self::Without(common, layer) => in_sandbox(common, Weakening::Without(*layer)),
            Self::AllowingAll(common) => in_sandbox(common, Weakening::Seccomp(all_allowed())),
        }
    }
}

/// What the program says in a weaker sandbox.
fn in_sandbox(common: &Common, weakening: Weakening) -> Result<String, Box<dyn Error>> {
    let mut spec = common.spec.clone();
    spec.name = SandboxName::new("calls")?;
    spec.command = COMMAND.map(str::to_owned).to_vec();
    let (output, stdout) = pipe2(OFlag::O_CLOEXEC)?;
    let null = || File::options().read(true).write(true).open("/dev/null");
    let io = Io {
        streams: Streams::Descriptors {
            stdin: null()?.into(),
            stdout,
            stderr: null()?.into(),
        },
        sockets: Vec::new(),
    };
    let (kernel, waivers) = (&common.kernel, &common.waivers);
    let prepared = Prepared::new(&spec)?;
    let plan = Plan::weakened(&spec, kernel, waivers, prepared, io, vec![weakening])?;
    let mut sandbox = plan.hold()?.start()?;
    let mut said = String::new();
    File::from(output).read_to_string(&mut said)?;
    let status = sandbox.wait()?;
    if status != ExitStatus::Exited(0) {
        return Err(format!("the program ended with {status:?}: {said}").into());
    }
    sandbox.into_prepared()?.cgroup.remove()?;
    Ok(said)
}

/// Times each call in `rounds` processes of each place, in turn, and prints
/// what each place adds, and which layer of ours how much of it.
pub(crate) fn run(rounds: usize, host: &str) -> Result<(), Box<dyn Error>> {
    let root = root()?;
    let common = Common::new(&root, "calls")?;
    let [mut outside, mut ours] = own_places(host)?;
    let mut docker = dockers_place(&root).map_err(|reason| format!("calls SKIPPED: {reason}"));
    let mut weaker = vec![Place::new("any filter", Way::AllowingAll(&common))];
    let applied = ON_THE_WAY
        .into_iter()
        .filter(|layer| common.applies(*layer));
    weaker.extend(applied.map(|layer| Place::new(layer.to_string(), Way::Without(&common, layer))));
    for _ in 0..rounds {
        for place in [&mut outside, &mut ours]
            .into_iter()
            .chain(&mut docker)
            .chain(&mut weaker)
        {
            place.time()?;
        }
    }
    match &docker {
        Ok(docker) => compare(&outside, &ours, docker, rounds),
        Err(skipped) => println!("{skipped}"),
    }
    explain(&ours, &weaker, rounds);
    Ok(())
}

fn compare(outside: &Place<'_>, ours: &Place<'_>, docker: &Place<'_>, rounds: usize) {
    println!(
        "{:<12} {:>11} {:>11} {:>11} {:>10} {:>12} {:>7}",
        "call, ns", outside.name, ours.name, docker.name, "ours adds", "Docker's adds", "n"
    );
    for call in CALLS {
        let bare = outside.median(call);
        let (adds, theirs) = (ours.median(call) - bare, docker.median(call) - bare);
        let verdict = if adds <= theirs { "met" } else { "MISSED" };
        println!(
            "{call:<12} {bare:>11.1} {:>11.1} {:>11.1} {adds:>10.1} {theirs:>12.1} {rounds:>7}  {verdict}",
            ours.median(call),
            docker.median(call),
        );
    }
}

/// Where our part comes from: what a call takes less without each layer.
fn explain(ours: &Place<'_>, weaker: &[Place<'_>], rounds: usize) {
    print!("{:<12}", "of it, ns");
    for place in weaker {
        let name = match place.way {
            Way::AllowingAll(_) => "rules, not filter",
            _ => &place.name,
        };
        print!(" {name:>20}");
    }
    println!(" {:>7}", "n");
    for call in CALLS {
        print!("{call:<12}");
        for place in weaker {
            print!(" {:>20.1}", ours.median(call) - place.median(call));
        }
        println!(" {rounds:>7}");
    }
}

/// Outside, and in a sandbox of the launcher's.
fn own_places(host: &str) -> Result<[Place<'static>; 2], Box<dyn Error>> {
    let behind = |before: &[&str]| -> Vec<String> {
        let words = before.iter().chain(&COMMAND);
        words.map(|word| (*word).to_owned()).collect()
    };
    let ours = behind(&["run", "--host", host, "--root", ROOT, "--"]);
    Ok([
        // The same path means the same file, as deep.
        Place::new("outside", Way::Behind("chroot".into(), behind(&[ROOT]))),
        Place::new("cloison", Way::Behind(Whole::launcher()?, ours)),
    ])
}

/// In a container with Docker's profile.
fn dockers_place(root: &Path) -> Result<Place<'static>, String> {
    let profile = bundle::dockers_profile()?;
    let (bundle, root) = (Path::new(BUNDLE), Root::Directory(root));
    bundle::make(bundle, root, &COMMAND, Some(&profile)).map_err(|error| error.to_string())?;
    let arguments = Runtime::Runc.arguments(bundle);
    Ok(Place::new("runc", Way::Behind("runc".into(), arguments)))
}

/// A root with nothing but the program, the file that it opens and the mount
/// points.
pub(crate) fn root() -> Result<PathBuf, Box<dyn Error>> {
    let root = noop::root(Path::new(ROOT))?;
    for point in ["sys", "srv/web/pages"] {
        fs::create_dir_all(root.join(point))?;
    }
    fs::write(root.join("srv/web/pages/index"), "a page\n")?;
    let program = root.join("attempt");
    fs::write(&program, cloison_escape::ATTEMPT)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(root)
}
