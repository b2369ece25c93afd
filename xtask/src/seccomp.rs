//! `docs/seccomp.md`: the profile `app`, with its reasons.

use cloison_sandbox::seccomp::{Comparison, Condition, Group, Profile, Rule, Verdict, call_name};

use crate::table::table;

const HEAD: &str = "# The seccomp profile `app`

Made by `cargo xtask docs` from `crates/cloison-sandbox/profiles/app.toml`; a
test compares it with the code. x86-64. A letter with two digits, such as A21,
is a row of the catalogue of attempts.
";

/// The whole document.
pub(crate) fn document() -> String {
    let profile = Profile::app();
    let foreign = answer(profile.foreign_verdict());
    let groups = [
        (
            "Allowed",
            "The kernel runs it, unless a rule below denies its arguments.",
            Verdict::Allow,
        ),
        ("Denied", "Answered with EPERM.", Verdict::Deny),
        (
            "Absent",
            "Answered with ENOSYS, so that a program takes the way of an older kernel. So is every number that the kernel's table does not have.",
            Verdict::Absent,
        ),
        ("Ended", "The process ends with SIGSYS.", Verdict::Kill),
    ];
    let mut text = format!("{HEAD}\nA call of another architecture (i386, x32): {foreign}.\n");
    for (title, says, verdict) in groups {
        let rows: Vec<_> = Profile::groups()
            .iter()
            .filter(|group| group.verdict == verdict)
            .map(group_row)
            .collect();
        if !rows.is_empty() {
            let rows = table(["group", "calls", "reason", "reference"], rows);
            text.push_str(&format!("\n## {title}\n\n{says}\n\n{rows}"));
        }
    }
    let kept = Profile::groups().iter().flat_map(|group| group.kept);
    let kept = table(
        ["calls", "reason"],
        kept.map(|kept| [calls(kept.calls), kept.reason.to_owned()]),
    );
    text.push_str(&format!(
        "\n## Allowed, and not used by the programs of the tests\n\nThe other allowed calls were \
         seen in use: `docs/programs.md`.\n\n{kept}"
    ));
    let rules = table(
        ["rule", "calls", "denied where", "reason", "reference"],
        profile.rules().iter().map(|rule| rule_row(rule)),
    );
    text.push_str(&format!(
        "\n## Rules over arguments\n\nAn allowed call is answered with EPERM where \
         one of the alternatives holds.\nArguments count from 0; their low 32 bits \
         are compared, unsigned.\n\n{rules}"
    ));
    text
}

fn answer(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allowed",
        Verdict::Deny => "EPERM",
        Verdict::Absent => "ENOSYS",
        Verdict::Kill => "the process ends with SIGSYS",
    }
}

fn group_row(group: &Group) -> [String; 4] {
    [
        group.name.to_owned(),
        calls(group.calls),
        group.reason.to_owned(),
        group.reference.unwrap_or("-").to_owned(),
    ]
}

fn rule_row(rule: &Rule) -> [String; 5] {
    let alternatives: Vec<String> = rule
        .any
        .iter()
        .map(|all| {
            let all: Vec<String> = all.iter().map(condition).collect();
            all.join(" and ")
        })
        .collect();
    [
        rule.name.to_owned(),
        calls(rule.calls),
        alternatives.join("; or "),
        rule.reason.to_owned(),
        rule.reference.to_owned(),
    ]
}

fn calls(numbers: &[u32]) -> String {
    let names: Vec<String> = numbers
        .iter()
        .map(|number| call_name(*number).map_or_else(|| number.to_string(), str::to_owned))
        .collect();
    names.join(", ")
}

fn condition(condition: &Condition) -> String {
    let (argument, value) = (condition.argument, condition.value);
    match condition.comparison {
        Comparison::Equal => format!("`args[{argument}] == {value:#x}`"),
        Comparison::NotEqual => format!("`args[{argument}] != {value:#x}`"),
        Comparison::AtLeast => format!("`args[{argument}] >= {value:#x}`"),
        Comparison::AtMost => format!("`args[{argument}] <= {value:#x}`"),
        Comparison::Masked(mask) => format!("`args[{argument}] & {mask:#x} == {value:#x}`"),
    }
}

#[cfg(test)]
mod tests {
    use cloison_sandbox::seccomp::Profile;

    /// Every name of the profile is told, and no call is left as a number.
    #[test]
    fn all_groups_and_rules_are_told() {
        let text = super::document();
        let profile = Profile::app();
        let groups = Profile::groups().iter().map(|group| group.name);
        for name in groups.chain(profile.rules().iter().map(|rule| rule.name)) {
            assert!(text.contains(&format!("\n| {name} | ")), "{name}");
        }
        for group in Profile::groups() {
            for number in group.calls {
                assert!(
                    cloison_sandbox::seccomp::call_name(*number).is_some(),
                    "{number}"
                );
            }
        }
    }
}
