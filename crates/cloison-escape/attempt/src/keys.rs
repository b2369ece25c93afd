//! C05: a key of the host's side.

use std::ffi::CStr;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::arguments::{Arguments, c_string};
use crate::files;
use crate::report::{CouldNotTry, Report, Verdict};
use crate::roles::until_standard_input_ends;
use crate::sys::{self, Answer, int, name, nr};

const KEYCTL_GET_KEYRING_ID: usize = 0;
const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
const KEYCTL_CHOWN: usize = 4;
const KEYCTL_SETPERM: usize = 5;
const KEYCTL_DESCRIBE: usize = 6;
const KEYCTL_LINK: usize = 8;
const KEYCTL_SEARCH: usize = 10;
const KEYCTL_READ: usize = 11;
const KEYCTL_SESSION_TO_PARENT: usize = 18;
const KEYCTL_GET_PERSISTENT: usize = 22;

const THREAD_KEYRING: i32 = -1;
const PROCESS_KEYRING: i32 = -2;
const SESSION_KEYRING: i32 = -3;
const USER_KEYRING: i32 = -4;
const USER_SESSION_KEYRING: i32 = -5;

/// What the key's possessor and its owner may do: all. Others: nothing.
const POSSESSOR_AND_OWNER_ALL: usize = 0x3f3f_0000;
const DESCRIPTION: &CStr = c"cloison-canary";

/// Reads `token` out of two keys of the host named cloison-canary. `serial`
/// lies in the keyring of whoever launched the sandbox: it is sought by its
/// number, through each keyring in reach, and in the listing. `foreign` lies
/// in another process's: only its number leads there.
pub(crate) fn c05(arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let serial: i32 = arguments.number("serial")?;
    let token = arguments.text("token")?;
    let foreign: i32 = arguments.number("foreign")?;
    report.way("foreign-read", || read(foreign, token));
    report.way("foreign-describe", || describe(foreign));
    report.way("foreign-link-and-read", || link_and_read(foreign, token));
    report.way("read", || read(serial, token));
    report.way("describe", || describe(serial));
    report.way("link-and-read", || link_and_read(serial, token));
    let keyrings = [
        ("thread", THREAD_KEYRING),
        ("process", PROCESS_KEYRING),
        ("session", SESSION_KEYRING),
        ("user", USER_KEYRING),
        ("user-session", USER_SESSION_KEYRING),
    ];
    for (kind, keyring) in keyrings {
        report.way(&format!("search-{kind}"), || search(keyring, token));
    }
    report.way("search-persistent", || search_persistent(token));
    report.way("request_key", || request(token));
    report.way("proc-keys", || listed(serial));
    Ok(())
}

/// Makes the canary key in a new session keyring, and gives that keyring to
/// whoever started this program: a parent with one thread. Says the key's
/// number. With a command after `--` it runs that in the keyring instead, the
/// number in the environment as `CLOISON_CANARY_KEY`; with `keep=1` it keeps
/// both and lives until its standard input ends. With `owner=UID` the key is
/// given to that user.
pub(crate) fn with_key(arguments: &Arguments) -> Result<ExitCode, CouldNotTry> {
    let token = arguments.text("token")?;
    let failed = |call: &str| {
        let call = call.to_owned();
        move |errno: sys::Errno| CouldNotTry(format!("{call} {errno}"))
    };
    // SAFETY: a null name asks for a new keyring without one.
    unsafe { sys::call(nr::KEYCTL, [KEYCTL_JOIN_SESSION_KEYRING, 0]) }.map_err(failed("keyctl"))?;
    let payload = c_string(token);
    let length = payload.as_bytes().len();
    let ring = int(SESSION_KEYRING);
    // SAFETY: type and description are C strings; the payload has the length.
    let serial = unsafe {
        let key = [
            name(c"user"),
            name(DESCRIPTION),
            name(&payload),
            length,
            ring,
        ];
        sys::call(nr::ADD_KEY, key)
    }
    .map_err(failed("add_key"))?;
    // SAFETY: takes no pointer.
    unsafe {
        sys::call(
            nr::KEYCTL,
            [KEYCTL_SETPERM, serial, POSSESSOR_AND_OWNER_ALL],
        )
    }
    .map_err(failed("keyctl"))?;
    let owner: u32 = arguments.number_or("owner", 0)?;
    if owner != 0 {
        // SAFETY: takes no pointer.
        unsafe {
            sys::call(
                nr::KEYCTL,
                [KEYCTL_CHOWN, serial, owner as usize, usize::MAX],
            )
        }
        .map_err(failed("keyctl"))?;
    }
    let Some((program, words)) = arguments.command.split_first() else {
        if arguments.number_or("keep", 0)? == 1 {
            println!("serial={serial}");
            until_standard_input_ends()?;
            return Ok(ExitCode::SUCCESS);
        }
        // SAFETY: takes no pointer.
        unsafe { sys::call(nr::KEYCTL, [KEYCTL_SESSION_TO_PARENT]) }.map_err(failed("keyctl"))?;
        println!("serial={serial}");
        return Ok(ExitCode::SUCCESS);
    };
    let error = Command::new(program)
        .args(words)
        .env("CLOISON_CANARY_KEY", serial.to_string())
        .exec();
    Err(CouldNotTry(format!("{program}: {error}")))
}

fn keyctl_into(operation: usize, key: i32, buffer: &mut [u8]) -> Answer {
    let at = buffer.as_mut_ptr().expose_provenance();
    // SAFETY: both operations write no more than the length they are told.
    unsafe { sys::call(nr::KEYCTL, [operation, int(key), at, buffer.len()]) }
}

fn read(serial: i32, token: &str) -> Verdict {
    let mut payload = [0_u8; 256];
    match keyctl_into(KEYCTL_READ, serial, &mut payload) {
        Ok(_) => match files::secret(&payload, token) {
            Some(secret) => Verdict::Through(format!("its payload is {secret}")),
            None => Verdict::Stopped("keyctl read another key".to_owned()),
        },
        Err(errno) => Verdict::stopped("keyctl", errno),
    }
}

fn describe(serial: i32) -> Verdict {
    let mut text = [0_u8; 256];
    let answer = keyctl_into(KEYCTL_DESCRIBE, serial, &mut text);
    Verdict::of("keyctl", answer, "its owner and name were shown")
}

/// Possession gives rights: a key that lies in one's own keyring is read by
/// the possessor's.
fn link_and_read(serial: i32, token: &str) -> Verdict {
    // SAFETY: takes no pointer.
    let linked = unsafe { sys::call(nr::KEYCTL, [KEYCTL_LINK, int(serial), int(PROCESS_KEYRING)]) };
    match linked {
        Ok(_) => read(serial, token),
        Err(errno) => Verdict::stopped("keyctl", errno),
    }
}

fn search(keyring: i32, token: &str) -> Verdict {
    const CREATE: usize = 1;
    // SAFETY: takes no pointer. A keyring that is not there yet is made.
    let known = unsafe { sys::call(nr::KEYCTL, [KEYCTL_GET_KEYRING_ID, int(keyring), CREATE]) };
    match known {
        Ok(id) => search_by_id(id, token),
        Err(errno) => Verdict::stopped("keyctl", errno),
    }
}

fn search_by_id(keyring: usize, token: &str) -> Verdict {
    // SAFETY: type and description are C strings.
    let found = unsafe {
        let key = [KEYCTL_SEARCH, keyring, name(c"user"), name(DESCRIPTION), 0];
        sys::call(nr::KEYCTL, key)
    };
    match found {
        Ok(serial) => read(i32::try_from(serial).unwrap_or(0), token),
        Err(errno) => Verdict::stopped("keyctl", errno),
    }
}

fn search_persistent(token: &str) -> Verdict {
    let own_user = usize::MAX;
    // SAFETY: takes no pointer.
    let answer = unsafe {
        sys::call(
            nr::KEYCTL,
            [KEYCTL_GET_PERSISTENT, own_user, int(PROCESS_KEYRING)],
        )
    };
    match answer {
        Ok(keyring) => search_by_id(keyring, token),
        Err(errno) => Verdict::stopped("keyctl", errno),
    }
}

/// Without a callout text the kernel starts no helper on the host.
fn request(token: &str) -> Verdict {
    // SAFETY: type and description are C strings; no callout.
    let found = unsafe { sys::call(nr::REQUEST_KEY, [name(c"user"), name(DESCRIPTION), 0, 0]) };
    match found {
        Ok(serial) => read(i32::try_from(serial).unwrap_or(0), token),
        Err(errno) => Verdict::stopped("request_key", errno),
    }
}

fn listed(serial: i32) -> Verdict {
    match std::fs::read_to_string("/proc/keys") {
        Ok(list) if list.contains(&format!("{serial:08x}")) => {
            Verdict::Through("listed in /proc/keys".to_owned())
        }
        Ok(_) => Verdict::Stopped("not listed in /proc/keys".to_owned()),
        Err(error) => Verdict::refused("open /proc/keys", &error),
    }
}
