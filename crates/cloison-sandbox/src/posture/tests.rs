#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use super::*;
use crate::Hierarchy;

const STATUS: &[u8] = b"Name:\tevil\\nUid:\t0\nUmask:\t0022\nState:\tS (sleeping)\n\
Uid:\t131072\t131072\t131072\t131072\nGid:\t131073\t131073\t131073\t131073\nGroups:\t \n\
NSpid:\t812\t1\nNSpgid:\t812\t1\nNSsid:\t812\t1\nThreads:\t1\nSigBlk:\t0000000000000001\n\
SigIgn:\t8000000000001000\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000002\n\
CapEff:\t0000000000000004\nCapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\n\
NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\nSpeculation_Store_Bypass:\tthread force mitigated\n\
SpeculationIndirectBranch:\tconditional force disabled\nCpus_allowed_list:\t0-1\n";

const MOUNTINFO: &[u8] = b"50 49 0:40 / / ro,nosuid,nodev,relatime - tmpfs tmpfs rw,size=4k\n\
51 50 254:0 /usr /usr ro,nosuid,nodev,idmapped shared:3 - ext4 /dev/vda rw\n\
52 50 0:41 / /proc rw,nosuid,nodev,noexec - proc proc rw,hidepid=invisible,subset=pid\n\
53 50 0:42 / /dev/pts\\033[2J rw,nosuid,noexec - devpts devpts rw,gid=131077,mode=620,ptmxmode=666,max=16\n";

const LIMITS: &[u8] =
    b"Limit                     Soft Limit           Hard Limit           Units     \n\
Max cpu time              unlimited            unlimited            seconds   \n\
Max open files            256                  1024                 files     \n\
Max nice priority         0                    0                    \n\
Max something new         1                    2                    \n";

const STAT: &[u8] = b"812 (a) S (b)) S 1 1 1 34816 -1 4194304 99 0 0 0 0 0 0 0 20 -5 1 0 212374 \
3133440 350 18446744073709551615 1 1 1 0 0 0 0 0 0 0 0 0 17 0 0 3 0 0 0\n";

fn value(facts: &[Fact], field: Field) -> Value {
    let mut found = facts.iter().filter(|fact| fact.field == field);
    let value = found.next().map(|fact| fact.value.clone());
    assert_eq!(found.next(), None, "{field:?} twice");
    value.unwrap_or(Value::Unknown)
}

fn list(words: &[&str]) -> Value {
    Value::List(words.iter().map(|word| (*word).to_owned()).collect())
}

#[test]
fn each_line_of_status_is_read() {
    let mut facts = Vec::new();
    status::status(Ok(STATUS), &mut facts);
    for (field, expected) in [
        (Field::UserIds, Value::ids(131_072)),
        (Field::GroupIds, Value::ids(131_073)),
        (Field::Groups, Value::List(Vec::new())),
        (Field::InnerPid, Value::Number(1)),
        (Field::InnerSession, Value::Number(1)),
        (Field::Inheritable, Value::Capabilities(0)),
        (Field::Permitted, Value::Capabilities(2)),
        (Field::Effective, Value::Capabilities(4)),
        (Field::Bounding, Value::Capabilities(0x1ff_ffff_ffff)),
        (Field::Ambient, Value::Capabilities(0)),
        (Field::NoNewPrivs, Value::Number(1)),
        (Field::SeccompMode, Value::Number(2)),
        (Field::SeccompFilters, Value::Number(3)),
        (Field::SignalsBlocked, Value::Bits(1)),
        (Field::SignalsIgnored, Value::Bits(0x8000_0000_0000_1000)),
        (Field::Umask, Value::Mode(0o022)),
        (Field::Affinity, Value::Text("0-1".into())),
        (Field::Threads, Value::Number(1)),
        (
            Field::StoreBypass,
            Value::Text("thread force mitigated".into()),
        ),
        (
            Field::IndirectBranch,
            Value::Text("conditional force disabled".into()),
        ),
    ] {
        assert_eq!(value(&facts, field), expected, "{field:?}");
    }
    assert_eq!(facts.len(), 20);
}

#[test]
fn line_that_is_missing_or_odd_is_unreadable() {
    let mut facts = Vec::new();
    status::status(Ok(b"CapEff:\tall\nUid\n:\n\xff:\xfe\n"), &mut facts);
    let known = |field| {
        facts
            .iter()
            .find(|fact| fact.field == field)
            .map(|fact| fact.known)
    };
    assert_eq!(
        known(Field::Effective),
        Some(Knowledge::Unreadable(Reason::Malformed))
    );
    assert_eq!(
        known(Field::UserIds),
        Some(Knowledge::Unreadable(Reason::NotShown))
    );
    assert_eq!(facts.len(), 20);
}

#[test]
fn name_of_a_program_moves_no_field_of_stat() {
    let mut facts = Vec::new();
    status::stat(Ok(STAT), &mut facts);
    assert_eq!(value(&facts, Field::Terminal), Value::Number(34_816));
    assert_eq!(value(&facts, Field::Nice), Value::Number(-5));
    assert_eq!(value(&facts, Field::SchedulerPolicy), Value::Number(3));
}

#[test]
fn mounts_are_listed_and_escaped() {
    let mut facts = Vec::new();
    mounts::facts(Ok(MOUNTINFO), &mut facts);
    let Value::Mounts(mounts) = value(&facts, Field::Mounts) else {
        unreachable!("mounts are read as mounts")
    };
    let points: Vec<&str> = mounts
        .iter()
        .map(|mount| mount.mount_point.as_str())
        .collect();
    assert_eq!(points, ["/", "/dev/pts\\x1b[2J", "/proc", "/usr"]);
    let usr = mounts.last().map(|mount| {
        (
            mount.options.join(","),
            mount.fs_type.clone(),
            mount.is_propagating,
        )
    });
    assert_eq!(
        usr,
        Some(("idmapped,nodev,nosuid,ro".into(), Some("ext4".into()), true))
    );
    assert_eq!(
        value(&facts, Field::ProcOptions),
        list(&["/proc hidepid=invisible subset=pid"])
    );
    assert_eq!(value(&facts, Field::SysfsOptions), list(&[]));
    assert_eq!(
        value(&facts, Field::DevptsOptions),
        list(&["/dev/pts\\x1b[2J gid=131077 max=16 mode=620 ptmxmode=666"])
    );
}

#[test]
fn limits_and_maps_are_read() {
    let limit = |resource, soft, hard| Limit {
        resource,
        soft,
        hard,
    };
    assert_eq!(
        status::limits(LIMITS),
        Some(Value::Limits(vec![
            limit(0, u64::MAX, u64::MAX),
            limit(7, 256, 1024),
            limit(13, 0, 0)
        ]))
    );
    assert_eq!(
        status::id_map(b"         0     131072      65536\n"),
        Some(list(&["0 131072 65536"]))
    );
    assert_eq!(status::id_map(b"0 1\n"), None);
}

fn vantage() -> Vantage {
    let (proc, _) = own_proc();
    let mut vantage = Vantage::of_caller(&proc).unwrap();
    vantage.keyring = Some(77);
    vantage
}

fn own_proc() -> (OwnedFd, Pid) {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let proc = openat(nix::fcntl::AT_FDCWD, c"/proc", flags, Mode::empty()).unwrap();
    (proc, Pid::this())
}

fn report() -> SelfReport {
    SelfReport {
        nested_refused: Some(0b1111),
        securebits: Some(0xef),
        keyring: Some(4711),
        make_node: Some(-13),
        bind_tcp: Some(-13),
        connect_abstract: Some(-1),
        dumpable: Some(0),
        memory_policy: Some(0),
        io_priority: Some(0),
        core_cookie: Some(9),
        store_bypass: Some(0b1001),
        indirect_branch: Some(0b1001),
        death_signal: Some(0),
        subreaper: Some(0),
    }
}

#[test]
fn own_process_is_read_whole() {
    let (proc, pid) = own_proc();
    let posture = Posture::read(&proc, pid, &vantage(), Some(&report())).unwrap();
    let fields: Vec<Field> = posture.facts().map(Fact::field).collect();
    assert_eq!(fields, Field::ALL);
    assert_eq!(posture.uncovered(&Layer::ALL), []);
    let mount = posture.fact(Field::MountNamespace).map(Fact::value);
    assert!(matches!(
        mount,
        Some(Value::Owner(Owner::Host | Owner::Caller))
    ));
    let ids = posture.fact(Field::UserIds).map(Fact::value);
    assert_eq!(ids, Some(&Value::ids(nix::unistd::getuid().as_raw())));
    let Some(Value::Descriptors(open)) = posture.fact(Field::Descriptors).map(Fact::value) else {
        unreachable!("the caller may read its own descriptors")
    };
    assert!(open.len() > 2);
    let text = posture.to_string();
    assert_eq!(text.lines().count(), Field::ALL.len());
    assert!(
        text.bytes()
            .all(|byte| (b' '..=b'~').contains(&byte) || byte == b'\n')
    );
}

#[test]
fn ended_process_is_gone() {
    let (proc, _) = own_proc();
    let pid = Pid::from_raw(i32::MAX);
    assert_eq!(
        Posture::read(&proc, pid, &vantage(), None),
        Err(PostureError::Gone(pid))
    );
}

#[test]
fn missing_report_is_a_difference() {
    let (proc, pid) = own_proc();
    let with = Posture::read(&proc, pid, &vantage(), Some(&report())).unwrap();
    let without = Posture::read(&proc, pid, &vantage(), None).unwrap();
    let differing: Vec<Field> = without
        .differences(&with)
        .iter()
        .map(|difference| difference.expected.field)
        .filter(|field| field.knowledge() == Knowledge::SelfReported)
        .collect();
    let reported: Vec<Field> = Field::ALL
        .iter()
        .copied()
        .filter(|field| field.knowledge() == Knowledge::SelfReported)
        .collect();
    assert_eq!(differing, reported);
}

#[test]
fn refused_question_is_unreadable_but_a_refused_attempt_is_an_outcome() {
    let mut facts = Vec::new();
    let said = SelfReport {
        securebits: Some(-22),
        ..report()
    };
    report::facts(Some(&said), &vantage(), &mut facts);
    let known = |field| facts.iter().find(|fact| fact.field == field).cloned();
    assert_eq!(
        known(Field::Securebits).map(|fact| fact.known),
        Some(Knowledge::Unreadable(Reason::Refused(22)))
    );
    assert_eq!(value(&facts, Field::MakeNode), Value::Outcome(13));
    assert_eq!(value(&facts, Field::MakeNode).to_string(), "EACCES");
    for (serial, owner) in [
        (4711, Owner::Own),
        (77, Owner::Caller),
        (0, Owner::Nobody),
        (-126, Owner::Nobody),
    ] {
        let mut facts = Vec::new();
        let said = SelfReport {
            keyring: Some(serial),
            ..report()
        };
        report::facts(Some(&said), &vantage(), &mut facts);
        assert_eq!(value(&facts, Field::SessionKeyring), Value::Owner(owner));
    }
}

/// Every way in which one value can be changed.
fn flips(value: &Value) -> Vec<Value> {
    let text = |text: &String| format!("{text}x");
    match value {
        Value::Unknown => vec![Value::Number(0)],
        Value::Number(number) => vec![Value::Number(number + 1), Value::Unknown],
        Value::OtherThan(number) => vec![Value::Number(*number), Value::Unknown],
        Value::Bits(bits) => (0..64).map(|bit| Value::Bits(bits ^ 1 << bit)).collect(),
        Value::Capabilities(mask) => (0..64)
            .map(|bit| Value::Capabilities(mask ^ 1 << bit))
            .collect(),
        Value::Mode(mode) => vec![Value::Mode(mode ^ 1)],
        Value::Outcome(errno) => vec![Value::Outcome(errno + 1), Value::Outcome(0)],
        Value::Owner(owner) => [Owner::Own, Owner::Caller, Owner::Host, Owner::Nobody]
            .into_iter()
            .filter(|other| other != owner)
            .map(Value::Owner)
            .collect(),
        Value::Text(words) => vec![Value::Text(text(words))],
        Value::List(words) => {
            let more = [words.clone(), vec!["x".into()]].concat();
            let fewer = words.iter().skip(1).cloned().collect::<Vec<_>>();
            let mut flipped = vec![Value::List(more)];
            flipped.extend((!words.is_empty()).then_some(Value::List(fewer)));
            flipped
        }
        Value::Cgroups(paths) => paths
            .keys()
            .flat_map(|hierarchy| {
                let (mut other, mut fewer) = (paths.clone(), paths.clone());
                other.insert(hierarchy.clone(), "/other".into());
                fewer.remove(hierarchy);
                [Value::Cgroups(other), Value::Cgroups(fewer)]
            })
            .collect(),
        Value::Mounts(mounts) => mount_flips(mounts),
        Value::Descriptors(open) => {
            let mut flipped = vec![Value::Descriptors(open[1..].to_vec())];
            let more = DescriptorEntry {
                number: 900,
                target: Some("/".into()),
            };
            flipped.push(Value::Descriptors([open.clone(), vec![more]].concat()));
            for position in 0..open.len() {
                let (mut number, mut target) = (open.clone(), open.clone());
                number[position].number += 1000;
                target[position].target = Some("/other".into());
                flipped.extend([Value::Descriptors(number), Value::Descriptors(target)]);
            }
            flipped
        }
        Value::Limits(limits) => (0..limits.len())
            .flat_map(|position| {
                let (mut soft, mut hard) = (limits.clone(), limits.clone());
                soft[position].soft ^= 1;
                hard[position].hard ^= 1;
                let fewer = limits.iter().filter(|limit| **limit != limits[position]);
                [soft, hard, fewer.copied().collect()].map(Value::Limits)
            })
            .collect(),
    }
}

fn mount_flips(mounts: &[MountEntry]) -> Vec<Value> {
    let mut flipped = vec![
        Value::Mounts(mounts[1..].to_vec()),
        Value::Mounts([mounts, &mounts[..1]].concat()),
    ];
    for position in 0..mounts.len() {
        let changes: [fn(&mut MountEntry); 5] = [
            |mount| mount.mount_point.push('x'),
            |mount| mount.fs_type = Some("other".into()),
            |mount| mount.device = Some(u64::MAX),
            |mount| mount.options.push("x".into()),
            |mount| mount.is_propagating = !mount.is_propagating,
        ];
        flipped.extend(changes.map(|change| {
            let mut other = mounts.to_vec();
            change(&mut other[position]);
            Value::Mounts(other)
        }));
    }
    flipped
}

/// A posture in which every field that can be known is.
fn whole() -> Posture {
    let mut facts = Vec::new();
    status::status(Ok(STATUS), &mut facts);
    status::stat(Ok(STAT), &mut facts);
    mounts::facts(Ok(MOUNTINFO), &mut facts);
    report::facts(Some(&report()), &vantage(), &mut facts);
    let mut posture = Posture::new();
    for fact in facts {
        posture.expect(fact.field, fact.value);
    }
    let cgroups = BTreeMap::from([
        (Hierarchy::V1("pids".into()), "/cloison-a".to_owned()),
        (Hierarchy::V2, "/cloison-a".to_owned()),
    ]);
    let descriptors = [0, 1, 2].map(|number| DescriptorEntry {
        number,
        target: Some("pipe:[1]".into()),
    });
    posture
        .expect(Field::Cgroups, Value::Cgroups(cgroups))
        .expect(Field::Limits, status::limits(LIMITS).unwrap())
        .expect(Field::Descriptors, Value::Descriptors(descriptors.to_vec()))
        .expect(Field::DeviceNodes, list(&["null c 1:3 0666"]))
        .expect(Field::UidMap, list(&["0 131072 65536"]))
        .expect(Field::GidMap, list(&["0 131072 65536"]))
        .expect(Field::Personality, Value::Bits(0))
        .expect(Field::CpuQuota, Value::Text("max".to_owned()))
        .expect(Field::CgroupProcessors, Value::Text("0-1".to_owned()))
        .expect(Field::CgroupMemoryNodes, Value::Text("0".to_owned()))
        .expect(Field::IoLimits, list(&["weight 50"]))
        .expect(Field::DevicesAllowed, list(&["c 1:3 rwm"]));
    for field in [
        Field::MemoryMax,
        Field::SwapMax,
        Field::TasksMax,
        Field::CpuWeight,
        Field::UserNamespace,
        Field::NetworkNamespace,
        Field::OomScoreAdjustment,
        Field::ProcOwner,
    ] {
        posture.expect(field, Value::Number(0));
    }
    for field in [
        Field::MountNamespace,
        Field::PidNamespace,
        Field::IpcNamespace,
        Field::UtsNamespace,
        Field::CgroupNamespace,
    ] {
        posture.expect(field, Value::Owner(Owner::Own));
    }
    posture.expect(Field::TimeNamespace, Value::Owner(Owner::Host));
    for field in [
        Field::NetworkNamespaceOwner,
        Field::MountNamespaceOwner,
        Field::PidNamespaceOwner,
    ] {
        posture.expect(field, Value::Number(4_026_531_837));
    }
    let ranges = vec!["1879113728".to_owned()];
    posture.expect(Field::RootIds, Value::List(ranges));
    for layer in Layer::ALL {
        posture.expect_unreadable(layer);
    }
    posture
}

#[test]
fn any_single_change_is_a_difference() {
    let expected = whole();
    assert_eq!(expected.uncovered(&Layer::ALL), []);
    assert_eq!(expected.differences(&expected), []);
    for position in 0..expected.facts.len() {
        let field = expected.facts[position].field;
        let only = |found: &Posture| {
            let differences = found.differences(&expected);
            let fields: Vec<Field> = differences.iter().map(|d| d.expected.field).collect();
            assert_eq!(fields, [field], "{found}");
        };
        let flips = flips(&expected.facts[position].value);
        assert!(!flips.is_empty(), "{field:?}");
        for value in flips {
            let mut found = expected.clone();
            found.facts[position].value = value;
            only(&found);
        }
        for known in [
            Knowledge::Read,
            Knowledge::SelfReported,
            Knowledge::Unreadable(Reason::Malformed),
        ] {
            let mut found = expected.clone();
            if found.facts[position].known != known {
                found.facts[position].known = known;
                only(&found);
            }
        }
        let mut found = expected.clone();
        found.facts.remove(position);
        only(&found);
    }
}

#[test]
fn forgotten_layer_is_not_compared() {
    let mut expected = whole();
    let mut found = whole();
    found.expect(Field::NoNewPrivs, Value::Number(0));
    assert_eq!(found.differences(&expected).len(), 1);
    expected.forget(Layer::NoNewPrivs);
    assert_eq!(found.differences(&expected), []);
    assert_eq!(expected.uncovered(&Layer::ALL), [Field::NoNewPrivs]);
}

#[test]
fn what_is_left_open_matches_anything() {
    let found = whole();
    let mut expected = found.clone();
    let Some(Value::Mounts(mut mounts)) = found.fact(Field::Mounts).map(|f| f.value.clone()) else {
        unreachable!("filled by `whole`")
    };
    for mount in &mut mounts {
        (mount.fs_type, mount.device) = (None, None);
    }
    mounts.reverse();
    let limits = vec![Limit {
        resource: 7,
        soft: 256,
        hard: 1024,
    }];
    expected
        .expect(Field::Mounts, Value::Mounts(mounts))
        .expect(Field::Limits, Value::Limits(limits));
    assert_eq!(found.differences(&expected), []);
}
