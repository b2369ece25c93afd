//! What `status`, `stat` and `limits` of a process say.

use super::knowledge::Reason;
use super::value::Limit;
use super::{Fact, Field, Knowledge, Value};
use crate::proc::escaped;
use crate::proc::fields::{decimal, hexadecimal, lines, signed, words};

/// The fields that `/proc/PID/status` tells of.
const STATUS: [Field; 19] = [
    Field::UserIds,
    Field::GroupIds,
    Field::Groups,
    Field::InnerPid,
    Field::Inheritable,
    Field::Permitted,
    Field::Effective,
    Field::Bounding,
    Field::Ambient,
    Field::NoNewPrivs,
    Field::SeccompMode,
    Field::SeccompFilters,
    Field::InnerSession,
    Field::SignalsBlocked,
    Field::SignalsIgnored,
    Field::Umask,
    Field::Affinity,
    Field::Threads,
    Field::StoreBypass,
];

/// Reads `/proc/PID/status`. A line that this kernel does not have leaves its
/// field unknown.
///
/// # Source
/// proc_pid_status(5)
pub(super) fn status(text: Result<&[u8], Reason>, facts: &mut Vec<Fact>) {
    let fields = || STATUS.into_iter().chain([Field::IndirectBranch]);
    let text = match text {
        Ok(text) => text,
        Err(reason) => {
            facts.extend(fields().map(|field| Fact::unreadable(field, reason)));
            return;
        }
    };
    let begun = facts.len();
    for line in lines(text) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (key, rest) = line.split_at(colon);
        let rest = rest.get(1..).unwrap_or_default().trim_ascii();
        let Some((field, value)) = status_line(key, rest) else {
            continue;
        };
        facts.push(match value {
            Some(value) => Fact::new(field, value, Knowledge::Read),
            None => Fact::unreadable(field, Reason::Malformed),
        });
    }
    for field in fields() {
        let is_known = facts.iter().skip(begun).any(|fact| fact.field() == field);
        if !is_known {
            facts.push(Fact::unreadable(field, Reason::NotShown));
        }
    }
}

/// The field of one line; its value is `None` if it is not in the form.
fn status_line(key: &[u8], rest: &[u8]) -> Option<(Field, Option<Value>)> {
    Some(match key {
        b"Uid" => (Field::UserIds, numbers(rest)),
        b"Gid" => (Field::GroupIds, numbers(rest)),
        b"Groups" => (Field::Groups, numbers(rest)),
        b"NSpid" => (Field::InnerPid, last_number(rest)),
        b"NSsid" => (Field::InnerSession, last_number(rest)),
        b"CapInh" => (Field::Inheritable, capabilities(rest)),
        b"CapPrm" => (Field::Permitted, capabilities(rest)),
        b"CapEff" => (Field::Effective, capabilities(rest)),
        b"CapBnd" => (Field::Bounding, capabilities(rest)),
        b"CapAmb" => (Field::Ambient, capabilities(rest)),
        b"NoNewPrivs" => (Field::NoNewPrivs, number(rest)),
        b"Seccomp" => (Field::SeccompMode, number(rest)),
        b"Seccomp_filters" => (Field::SeccompFilters, number(rest)),
        b"SigBlk" => (Field::SignalsBlocked, bits(rest)),
        b"SigIgn" => (Field::SignalsIgnored, bits(rest)),
        b"Umask" => (Field::Umask, octal(rest)),
        b"Cpus_allowed_list" => (Field::Affinity, Some(Value::Text(escaped(rest)))),
        b"Threads" => (Field::Threads, number(rest)),
        b"Speculation_Store_Bypass" => (Field::StoreBypass, Some(Value::Text(escaped(rest)))),
        b"SpeculationIndirectBranch" => (Field::IndirectBranch, Some(Value::Text(escaped(rest)))),
        _ => return None,
    })
}

fn number(text: &[u8]) -> Option<Value> {
    signed(text).map(Value::Number)
}

fn last_number(text: &[u8]) -> Option<Value> {
    number(words(text).last()?)
}

fn numbers(text: &[u8]) -> Option<Value> {
    words(text)
        .map(|word| decimal(word).map(|number| number.to_string()))
        .collect::<Option<_>>()
        .map(Value::List)
}

fn bits(text: &[u8]) -> Option<Value> {
    hexadecimal(text).map(Value::Bits)
}

fn capabilities(text: &[u8]) -> Option<Value> {
    hexadecimal(text).map(Value::Capabilities)
}

fn octal(text: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(text).ok()?;
    u32::from_str_radix(text, 8).ok().map(Value::Mode)
}

/// Reads `/proc/PID/stat`.
///
/// # Source
/// proc_pid_stat(5)
pub(super) fn stat(text: Result<&[u8], Reason>, facts: &mut Vec<Fact>) {
    // Counted from the state, the first field behind the program's name. The
    // name itself may hold blanks and brackets.
    let fields = [
        (Field::Terminal, 4),
        (Field::Nice, 16),
        (Field::SchedulerPolicy, 38),
    ];
    for (field, position) in fields {
        let value = text.and_then(|text| {
            let name_end = text
                .iter()
                .rposition(|byte| *byte == b')')
                .ok_or(Reason::Malformed)?;
            text.get(name_end + 1..)
                .and_then(|rest| words(rest.trim_ascii_end()).nth(position))
                .and_then(number)
                .ok_or(Reason::Malformed)
        });
        facts.push(Fact::read(field, value));
    }
}

/// Reads `/proc/PID/limits`. Resources newer than this code are left out.
pub(super) fn limits(text: &[u8]) -> Option<Value> {
    // Columns of fixed width: a name has blanks in it.
    const NAME_WIDTH: usize = 25;
    let mut limits = Vec::with_capacity(Limit::NAMES.len());
    for line in lines(text).skip(1) {
        let (name, rest) = line.split_at_checked(NAME_WIDTH)?;
        let mut values = words(rest);
        let (soft, hard) = (limit(values.next()?)?, limit(values.next()?)?);
        let name = name.trim_ascii_end();
        let number = Limit::NAMES
            .iter()
            .position(|known| known.as_bytes() == name);
        if let Some(resource) = number.and_then(|number| u32::try_from(number).ok()) {
            limits.push(Limit {
                resource,
                soft,
                hard,
            });
        }
    }
    Some(Value::Limits(limits))
}

fn limit(word: &[u8]) -> Option<u64> {
    match word {
        b"unlimited" => Some(u64::MAX),
        word => decimal(word),
    }
}

/// Reads `/proc/PID/uid_map` or `gid_map`.
pub(super) fn id_map(text: &[u8]) -> Option<Value> {
    lines(text)
        .map(|line| {
            let mut numbers = words(line).map(decimal);
            let row = [numbers.next()??, numbers.next()??, numbers.next()??];
            numbers
                .next()
                .is_none()
                .then(|| row.map(|number| number.to_string()).join(" "))
        })
        .collect::<Option<_>>()
        .map(Value::List)
}
