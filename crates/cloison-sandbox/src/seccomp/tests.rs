use std::collections::BTreeMap;
use std::time::Instant;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use super::machine::{Call, answer, run};
use super::tree::{AUDIT_ARCH_X86_64, Leaf, compile, return_value};
use super::{
    Filters, Instruction, Profile, Verdict, arguments, call_name, call_number, numbers::NUMBERS,
};

const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const GARBAGE: u64 = 0xdead_beef_0000_0000;

fn native(number: u32, arguments: [u64; 6]) -> Call {
    Call {
        number,
        architecture: AUDIT_ARCH_X86_64,
        arguments,
    }
}

/// The program without rules over arguments.
fn numbers_program(profile: &Profile) -> Vec<Instruction> {
    let mut profile = profile.clone();
    profile.rules.clear();
    profile.compile().unwrap().programs.pop().unwrap()
}

/// The same table compiled by seccompiler: one program a verdict, as it has
/// one match action each.
fn oracle(profile: &Profile, matching: Verdict) -> Vec<Instruction> {
    let rules: BTreeMap<i64, Vec<_>> = (0..1024)
        .filter(|number| profile.verdict(*number) == matching)
        .map(|number| (i64::from(number), Vec::new()))
        .collect();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillThread,
        SeccompAction::Allow,
        TargetArch::x86_64,
    );
    let program = BpfProgram::try_from(filter.unwrap()).unwrap();
    program
        .iter()
        .map(|one| Instruction {
            code: one.code,
            jt: one.jt,
            jf: one.jf,
            k: one.k,
        })
        .collect()
}

#[test]
fn every_number_gets_the_verdict_that_seccompiler_gives() {
    let profile = Profile::app();
    let ours = numbers_program(&profile);
    for verdict in [Verdict::Allow, Verdict::Deny, Verdict::Absent] {
        let theirs = oracle(&profile, verdict);
        for number in 0..1024 {
            let call = native(number, [0; 6]);
            let matched = run(&theirs, call).0 == return_value(Verdict::Allow);
            let given = run(&ours, call).0 == return_value(verdict);
            assert_eq!(given, matched, "{number} {:?}", call_name(number));
        }
    }
    let i386 = (0..1024).map(|number| Call {
        architecture: AUDIT_ARCH_I386,
        ..native(number, [0; 6])
    });
    let x32 = (0x4000_0000..0x4000_0400)
        .chain([0x5000_0000, 0x7fff_ffff])
        .map(|number| native(number, [0; 6]));
    for call in i386.chain(x32) {
        assert_eq!(run(&ours, call).0, return_value(Verdict::Kill));
    }
    for number in [0x3fff_ffff, 0x8000_0000, u32::MAX] {
        let found = run(&ours, native(number, [0; 6])).0;
        assert_eq!(found, return_value(Verdict::Absent), "{number:#x}");
    }
}

#[test]
fn oracle_sees_a_changed_verdict() {
    let changed = numbers_program(&Profile::app().allowing("io_uring_setup").unwrap());
    let theirs = oracle(&Profile::app(), Verdict::Allow);
    let differing: Vec<u32> = (0..1024)
        .filter(|number| {
            let allowed = |program| {
                let call = native(*number, [0; 6]);
                run(program, call).0 == return_value(Verdict::Allow)
            };
            allowed(&theirs) != allowed(&changed)
        })
        .collect();
    assert_eq!(differing, [call_number("io_uring_setup").unwrap()]);
}

/// Arguments at and around every value that a rule compares with.
fn telling_arguments(profile: &Profile) -> Vec<u32> {
    let conditions = profile
        .rules()
        .iter()
        .flat_map(|rule| rule.any.iter().copied().flatten());
    let near = |value: u32| [value, value.wrapping_add(1), value.wrapping_sub(1), !value];
    let mut values: Vec<u32> = conditions.flat_map(|one| near(one.value)).collect();
    values.extend([0, 1, 2, 10, 16, u32::MAX]);
    values.sort_unstable();
    values.dedup();
    values
}

#[test]
fn tightened_program_answers_as_seccompilers_own() {
    let profile = Profile::app();
    let rules = || arguments::by_call(profile.rules()).unwrap();
    let own = arguments::as_it_comes(rules()).unwrap();
    let tightened = arguments::compile(rules()).unwrap();
    assert!(
        tightened.len() * 3 < own.len() * 2,
        "{} of {}",
        tightened.len(),
        own.len()
    );
    let values = telling_arguments(&profile);
    let mut denied = 0;
    for number in rules().keys().map(|number| *number as u32).chain([0, 500]) {
        for first in &values {
            for second in &values {
                // The two values in every pair of neighbouring arguments.
                for shift in 0..4 {
                    let mut arguments = [GARBAGE | 3; 6];
                    arguments[shift] = u64::from(*first) | GARBAGE;
                    arguments[shift + 1] = u64::from(*second);
                    let call = native(number, arguments);
                    let expected = run(&own, call).0;
                    assert_eq!(run(&tightened, call).0, expected, "{number} {arguments:x?}");
                    denied += usize::from(expected == return_value(Verdict::Deny));
                }
            }
        }
    }
    assert!(denied > 1000);
}

#[test]
fn jumps_beyond_255_instructions_reach_their_target() {
    let verdicts = [Verdict::Allow, Verdict::Deny, Verdict::Absent];
    for length in [1, 2, 3, 255, 256, 257, 1000, 3000] {
        let ranges: Vec<(u32, Leaf)> = (0..length)
            .map(|index| (index * 3, Leaf::Answer(verdicts[index as usize % 3])))
            .collect();
        let program = compile(&ranges, Verdict::Kill);
        assert!(program.len() < 4096, "{length}: {}", program.len());
        for number in 0..length * 3 {
            let (found, constant) = run(&program, native(number, [0; 6]));
            assert_eq!(found, return_value(verdicts[number as usize / 3 % 3]));
            assert!(constant);
        }
    }
}

#[test]
fn allowed_calls_without_rules_are_known_to_the_kernels_cache() {
    let profile = Profile::app();
    let filters = profile.compile().unwrap();
    let mut cached = 0;
    for (name, number) in NUMBERS {
        let ruled = profile
            .rules()
            .iter()
            .any(|rule| rule.calls.contains(number));
        let (_, constant) = run(&filters.programs[0], native(*number, [0; 6]));
        assert_eq!(constant, !ruled, "{name}");
        cached += usize::from(constant);
    }
    assert!(cached > 300, "{cached}");
}

#[test]
fn table_agrees_with_the_installed_header() {
    let Ok(header) = std::fs::read_to_string("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    else {
        println!("SKIPPED: no asm/unistd_64.h on this machine");
        return;
    };
    let mut compared = 0;
    for line in header.lines() {
        let mut words = line.split_whitespace();
        let name = match (words.next(), words.next()) {
            (Some("#define"), Some(word)) => word.strip_prefix("__NR_"),
            _ => None,
        };
        let number = words.next().and_then(|word| word.parse().ok());
        if let (Some(name), Some(number)) = (name, number)
            && number <= NUMBERS[NUMBERS.len() - 1].1
        {
            assert_eq!(call_number(name), Some(number), "{name}");
            compared += 1;
        }
    }
    assert!(compared > 300, "{compared} numbers in the header");
}

#[test]
fn each_call_stands_in_one_group() {
    let mut found: Vec<u32> = Profile::groups()
        .iter()
        .flat_map(|group| group.calls.iter().copied())
        .collect();
    found.sort_unstable();
    let table: Vec<u32> = NUMBERS.iter().map(|(_, number)| *number).collect();
    assert_eq!(found, table);
    assert!(
        (0..=334)
            .chain(424..=470)
            .all(|number| table.contains(&number))
    );
    assert!(table.is_sorted() && table.iter().all(|number| *number < 512));
}

#[test]
fn each_rule_denies_and_allows_its_samples_whatever_the_high_half() {
    let profile = Profile::app();
    let filters = profile.compile().unwrap();
    for rule in profile.rules() {
        let weakened = profile.clone().without_rule(rule.name).unwrap();
        let weakened = weakened.compile().unwrap();
        for call in rule.calls {
            assert_eq!(profile.verdict(*call), Verdict::Allow, "{}", rule.name);
            for high in [0, GARBAGE, 0xffff_ffff_0000_0000] {
                let with = |sample: &[u32; 6]| sample.map(|low| u64::from(low) | high);
                for sample in rule.denied {
                    let denied = native(*call, with(sample));
                    let context = format!("{} {sample:x?} {high:x}", rule.name);
                    assert_eq!(
                        answer(&filters, denied),
                        return_value(Verdict::Deny),
                        "{context}"
                    );
                }
                for sample in rule.allowed {
                    let allowed = native(*call, with(sample));
                    let context = format!("{} {sample:x?} {high:x}", rule.name);
                    assert_eq!(
                        answer(&filters, allowed),
                        return_value(Verdict::Allow),
                        "{context}"
                    );
                }
            }
            // The rule, and no other, is what denies at least one sample.
            assert!(
                rule.denied.iter().any(|sample| {
                    let call = native(*call, sample.map(u64::from));
                    answer(&weakened, call) == return_value(Verdict::Allow)
                }),
                "{} is covered by other rules",
                rule.name
            );
        }
    }
}

#[test]
fn each_line_of_a_rule_denies_some_sample() {
    for rule in Profile::app().rules() {
        for (line, conditions) in rule.any.iter().enumerate() {
            let holds = |sample: &[u32; 6]| {
                conditions.iter().all(|condition| {
                    let argument = sample[usize::from(condition.argument)];
                    match condition.comparison {
                        super::Comparison::Equal => argument == condition.value,
                        super::Comparison::NotEqual => argument != condition.value,
                        super::Comparison::AtLeast => argument >= condition.value,
                        super::Comparison::AtMost => argument <= condition.value,
                        super::Comparison::Masked(mask) => argument & mask == condition.value,
                    }
                })
            };
            assert!(rule.denied.iter().any(holds), "{} line {line}", rule.name);
            assert!(!rule.allowed.iter().any(holds), "{} line {line}", rule.name);
        }
    }
}

#[test]
fn calls_after_the_filter_and_of_init_are_allowed() {
    let needed = [
        "read",
        "write",
        "execve",
        "execveat",
        "exit",
        "exit_group",
        "clone",
        "fork",
        "vfork",
        "wait4",
        "waitid",
        "signalfd4",
        "poll",
        "ppoll",
        "epoll_wait",
        "landlock_create_ruleset",
        "landlock_add_rule",
        "landlock_restrict_self",
        "close_range",
        "dup3",
        "setsid",
        "rt_sigreturn",
        "restart_syscall",
        "futex",
    ];
    for name in needed {
        let number = call_number(name).unwrap();
        assert_eq!(Profile::app().verdict(number), Verdict::Allow, "{name}");
    }
    let clone3 = call_number("clone3").unwrap();
    assert_eq!(Profile::app().verdict(clone3), Verdict::Absent);
}

#[test]
fn variants_open_what_they_name_and_nothing_else() {
    let number = call_number("io_uring_setup").unwrap();
    let changed = Profile::app().allowing("io_uring_setup").unwrap();
    for other in 0..1024 {
        let same = changed.verdict(other) == Profile::app().verdict(other);
        assert_eq!(same, other != number);
    }
    let open = Profile::app()
        .without_architecture_check()
        .compile()
        .unwrap();
    let whole = Profile::app().compile().unwrap();
    let i386_mount = Call {
        architecture: AUDIT_ARCH_I386,
        ..native(21, [0; 6])
    };
    let x32 = native(0x4000_0000 + 165, [0; 6]);
    for call in [i386_mount, x32] {
        assert_eq!(answer(&open, call), return_value(Verdict::Allow));
        assert_eq!(answer(&whole, call), return_value(Verdict::Kill));
    }
    let native_mount = native(165, [0; 6]);
    assert_eq!(answer(&open, native_mount), return_value(Verdict::Deny));
    assert!(Profile::app().allowing("no_such_call").is_err());
    assert!(Profile::app().without_rule("no-such-rule").is_err());
}

#[test]
fn a_profile_compiles_fast_enough_for_each_launch() {
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let start = Instant::now();
            let filters: Filters = Profile::app().compile().unwrap();
            assert_eq!(filters.programs.len(), 1);
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let lengths: Vec<usize> = Profile::app()
        .compile()
        .unwrap()
        .programs
        .iter()
        .map(Vec::len)
        .collect();
    println!(
        "compiled in {:?} (median), instructions {lengths:?}",
        times[100]
    );
    // Generous: a debug build on a shared machine. Release is far below.
    assert!(times[100].as_millis() < 5);
}
