//! What a sandbox says of itself before it runs anything foreign.

use nix::errno::Errno;

use super::knowledge::Reason;
use super::{Fact, Field, Knowledge, Value, Vantage};

/// What the child says of itself after its last layer but the filter.
///
/// Each value is what a call gave, a failure as the negative error number;
/// `None` was not asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelfReport {
    /// Of which kinds of namespace a limit refused it another: bit 0 user,
    /// 1 network, 2 pid, 3 time.
    pub nested_refused: Option<u64>,
    /// `PR_GET_SECUREBITS`.
    pub securebits: Option<i64>,
    /// The serial number of the session keyring.
    pub keyring: Option<i64>,
    /// Making a device node in `/tmp`.
    pub make_node: Option<i64>,
    /// Binding a TCP port.
    pub bind_tcp: Option<i64>,
    /// Connecting to an abstract socket bound before its Landlock domain.
    pub connect_abstract: Option<i64>,
    /// `PR_GET_DUMPABLE`.
    pub dumpable: Option<i64>,
    /// The mode of the memory policy.
    pub memory_policy: Option<i64>,
    /// The I/O priority.
    pub io_priority: Option<i64>,
    /// The core scheduling cookie.
    pub core_cookie: Option<i64>,
    /// `PR_GET_SPECULATION_CTRL` of store bypass.
    pub store_bypass: Option<i64>,
    /// The same of indirect branches.
    pub indirect_branch: Option<i64>,
    /// The parent-death signal.
    pub death_signal: Option<i64>,
    /// Whether it is a subreaper.
    pub subreaper: Option<i64>,
}

/// The kinds of namespace that could be made.
fn not_refused(refused: u64) -> Vec<String> {
    let kinds = ["user", "network", "pid", "time"].into_iter().enumerate();
    kinds
        .filter(|(bit, _)| refused >> bit & 1 == 0)
        .map(|(_, kind)| kind.to_owned())
        .collect()
}

/// The facts that `report` gives, or that its absence leaves unknown.
pub(super) fn facts(report: Option<&SelfReport>, vantage: &Vantage, facts: &mut Vec<Fact>) {
    let absent = SelfReport::default();
    let report = report.unwrap_or(&absent);
    let nested = report
        .nested_refused
        .map(|refused| Value::List(not_refused(refused)))
        .ok_or(Reason::NotReported);
    let known = [
        (Field::NestedNamespaces, nested),
        (Field::Securebits, bits(report.securebits)),
        (
            Field::SessionKeyring,
            answer(absent_keyring(report.keyring))
                .map(|serial| Value::Owner(vantage.owner_of_keyring(serial))),
        ),
        (Field::MakeNode, outcome(report.make_node)),
        (Field::BindTcp, outcome(report.bind_tcp)),
        (Field::ConnectAbstract, outcome(report.connect_abstract)),
        (Field::Dumpable, number(report.dumpable)),
        (Field::MemoryPolicy, number(report.memory_policy)),
        (Field::IoPriority, number(report.io_priority)),
        (Field::DeathSignal, number(report.death_signal)),
        (Field::Subreaper, number(report.subreaper)),
        (
            Field::CoreCookie,
            // A cookie is any word: none of its values is an error, but those
            // that prctl(2) can give are.
            report
                .core_cookie
                .ok_or(Reason::NotReported)
                .and_then(|cookie| match cookie {
                    -4095..=-1 => Err(refused(cookie)),
                    cookie => Ok(Value::Owner(vantage.owner_of_cookie(cookie))),
                }),
        ),
        (Field::StoreBypassControl, bits(report.store_bypass)),
        (Field::IndirectBranchControl, bits(report.indirect_branch)),
    ];
    facts.extend(known.into_iter().map(|(field, value)| match value {
        Ok(value) => Fact::new(field, value, Knowledge::SelfReported),
        Err(reason) => Fact::unreadable(field, reason),
    }));
}

/// A process without session keyring is told `ENOKEY`.
fn absent_keyring(serial: Option<i64>) -> Option<i64> {
    const NO_KEY: i64 = -(Errno::ENOKEY as i64);
    serial.map(|serial| if serial == NO_KEY { 0 } else { serial })
}

fn answer(value: Option<i64>) -> Result<i64, Reason> {
    match value {
        None => Err(Reason::NotReported),
        Some(errno) if errno < 0 => Err(refused(errno)),
        Some(value) => Ok(value),
    }
}

fn number(value: Option<i64>) -> Result<Value, Reason> {
    answer(value).map(Value::Number)
}

fn bits(value: Option<i64>) -> Result<Value, Reason> {
    answer(value).map(|value| Value::Bits(value.unsigned_abs()))
}

fn outcome(value: Option<i64>) -> Result<Value, Reason> {
    let value = value.ok_or(Reason::NotReported)?;
    if value >= 0 {
        return Ok(Value::Outcome(0));
    }
    i32::try_from(value.unsigned_abs())
        .map(Value::Outcome)
        .map_err(|_too_large| Reason::Malformed)
}

fn refused(value: i64) -> Reason {
    i32::try_from(value.unsigned_abs()).map_or(Reason::Malformed, Reason::Refused)
}
