//! Another process, which attaches or makes volumes until it is killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use cloison_escape::stage::ROLE;
use cloison_storage::Space;

use crate::ground::{LIMITS, image, mounted, name, volumes};

const ARGUMENT: &str = "--cloison-actor";

/// Plays it where this process was started for that, on a stage.
pub(crate) fn play() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, argument, what, directory, point] = arguments.as_slice() else {
        return None;
    };
    if argument != ARGUMENT || std::env::var_os(ROLE).is_none() {
        return None;
    }
    let volumes = volumes(Path::new(directory));
    match what.as_str() {
        // Holds it until it is killed.
        "attach" => {
            let attached = volumes.attach(&name("data")).unwrap();
            println!("ready");
            loop {
                std::thread::park();
                assert!(!format!("{attached:?}").is_empty());
            }
        }
        // Leaves it mounted.
        "mount" => {
            let attached = volumes.attach(&name("data")).unwrap();
            mounted(attached, Path::new(point));
            println!("ready");
        }
        // Until it is killed.
        _ => {
            println!("ready");
            for at in 0_u64.. {
                let name = name(&format!("made-{at}"));
                volumes
                    .create(&name, &image(LIMITS, Space::Reserved))
                    .unwrap();
                drop(volumes.attach(&name).unwrap());
                volumes.remove(&name).unwrap();
            }
        }
    }
    Some(ExitCode::SUCCESS)
}

/// Starts one and waits until it is ready.
pub(crate) fn start(what: &str, directory: &Path, point: &Path) -> Child {
    let mut child = Command::new("/proc/self/exe")
        .args([ARGUMENT, what])
        .args([directory, point])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    child
}
