//! The walk on code assembled by hand, one promise each.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use super::image::Section;
use super::*;

const CODE: u64 = 0x1000;
const DATA: u64 = 0x4000;
const SLOTS: u64 = 0x8000;
const ENTRY: &str = "cloison_child_entry";
const SECOND: u64 = 0x1800;
const SECOND_NAME: &str = "_ZN13cloison_linux5child6second17h0123456789abcdefE";

/// `lea rcx,[DATA]` at an address.
fn table_base(at: u64) -> Vec<u8> {
    let distance = i32::try_from(DATA - at - 7).unwrap();
    [&[0x48, 0x8d, 0x0d][..], &distance.to_le_bytes()].concat()
}

/// `movsxd rax,[rcx+rax*4]`, `add rax,rcx`, `jmp rax`.
const DISPATCH: [u8; 9] = [0x48, 0x63, 0x04, 0x81, 0x48, 0x01, 0xc8, 0xff, 0xe0];

/// `call [SLOTS]` or `jmp [SLOTS]` or `mov r15,[SLOTS]`, at an address.
fn through_slot(operation: &[u8], at: u64) -> Vec<u8> {
    let length = operation.len() as u64 + 4;
    let distance = i32::try_from(SLOTS - at - length).unwrap();
    [operation, &distance.to_le_bytes()].concat()
}

const CALL: &[u8] = &[0xff, 0x15];
const JUMP: &[u8] = &[0xff, 0x25];
const LOAD_RAX: &[u8] = &[0x48, 0x8b, 0x05];
const LOAD_R15: &[u8] = &[0x4c, 0x8b, 0x3d];
const CALL_RAX: &[u8] = &[0xff, 0xd0];
const CALL_R15: &[u8] = &[0x41, 0xff, 0xd7];
const RET: &[u8] = &[0xc3];

/// The entry's code, the second function's, a jump table, and what the loader
/// writes into the one slot.
struct Scene {
    entry: Vec<u8>,
    second: Vec<u8>,
    table: Vec<u8>,
    table_writable: bool,
    slot: Target,
    slot_sealed: bool,
}

impl Scene {
    fn of(parts: &[&[u8]]) -> Self {
        Scene {
            entry: parts.concat(),
            second: RET.to_vec(),
            table: Vec::new(),
            table_writable: false,
            slot: Target::Import("memcpy".to_owned()),
            slot_sealed: true,
        }
    }

    fn walk(&self) -> Result<Walk, Refusal> {
        let mut text = self.entry.clone();
        text.resize(usize::try_from(SECOND - CODE).unwrap(), 0xcc);
        text.extend_from_slice(&self.second);
        let section = |address, bytes, writable, executable| Section {
            address,
            bytes,
            writable,
            executable,
            stubs: false,
        };
        let symbol = |name: &str, code: &[u8]| Symbol {
            names: vec![name.to_owned()],
            size: code.len() as u64,
            chosen_at_load: false,
        };
        let image = Image {
            sections: vec![
                section(CODE, &text, false, true),
                section(DATA, &self.table, self.table_writable, false),
                section(SLOTS, &[0; 8], true, false),
            ],
            functions: BTreeMap::from([
                (CODE, symbol(ENTRY, &self.entry)),
                (SECOND, symbol(SECOND_NAME, &self.second)),
            ]),
            slots: BTreeMap::from([(SLOTS, self.slot.clone())]),
            sealed: self
                .slot_sealed
                .then_some(SLOTS..SLOTS + 8)
                .into_iter()
                .collect(),
        };
        Walker::new(&image, ENTRY, "cloison_linux")?.run()
    }

    fn faults(&self) -> Vec<Fault> {
        match self.walk() {
            Err(Refusal::Red(findings)) => findings.into_iter().map(|it| it.fault).collect(),
            other => panic!("not red: {other:?}"),
        }
    }
}

fn distances(cases: &[u64]) -> Vec<u8> {
    let distance = |case: &u64| i32::try_from(case.wrapping_sub(DATA).cast_signed()).unwrap();
    cases
        .iter()
        .flat_map(|case| distance(case).to_le_bytes())
        .collect()
}

/// `lea`, the dispatch, and two cases (`ret` each) at 0x1010 and 0x1011.
fn dispatcher(cases: &[u64]) -> Scene {
    let mut scene = Scene::of(&[&table_base(CODE), &DISPATCH, RET, RET]);
    scene.table = distances(cases);
    scene
}

#[test]
fn call_through_a_register_is_red() {
    assert_eq!(Scene::of(&[CALL_RAX, RET]).faults(), [Fault::IndirectCall]);
}

#[test]
fn call_through_memory_that_may_change_is_red() {
    let mut scene = Scene::of(&[&through_slot(CALL, CODE), RET]);
    let walked = scene.walk().unwrap();
    assert_eq!(walked.calls, BTreeSet::from(["memcpy (imported)".into()]));
    scene.slot_sealed = false;
    assert_eq!(scene.faults(), [Fault::IndirectCall]);
}

#[test]
fn import_other_than_a_memory_routine_is_red() {
    for name in ["malloc", "memmove", "memcmp", "bcmp", "abort"] {
        let mut scene = Scene::of(&[&through_slot(CALL, CODE), RET]);
        scene.slot = Target::Import(name.to_owned());
        let symbol = name.to_owned();
        assert_eq!(scene.faults(), [Fault::Outside { symbol }]);
    }
}

#[test]
fn tail_jump_through_a_slot_is_followed() {
    let mut scene = Scene::of(&[&through_slot(JUMP, CODE)]);
    scene.slot = Target::Address(SECOND);
    assert_eq!(scene.walk().unwrap().functions, 2);
    scene.second = [CALL_RAX, RET].concat();
    let Err(Refusal::Red(findings)) = scene.walk() else {
        panic!("the function behind the slot was not walked");
    };
    let chain = findings.first().map(|finding| finding.chain.clone());
    let named = [ENTRY, "cloison_linux::child::second"].map(str::to_owned);
    assert_eq!(chain.as_deref(), Some(&named[..]));
}

#[test]
fn kept_register_still_holds_its_target_after_a_call_and_lost_one_does_not() {
    let kept = through_slot(LOAD_R15, CODE);
    let scene = Scene::of(&[&kept, CALL_R15, CALL_R15, RET]);
    assert_eq!(scene.walk().unwrap().calls.len(), 1);
    let lost = through_slot(LOAD_RAX, CODE);
    let scene = Scene::of(&[&lost, CALL_RAX, CALL_RAX, RET]);
    assert_eq!(scene.faults(), [Fault::IndirectCall]);
}

#[test]
fn target_that_only_one_path_sets_is_red() {
    // je over the load, then call r15.
    let load = through_slot(LOAD_R15, CODE + 2);
    let scene = Scene::of(&[&[0x74, 0x07], &load, CALL_R15, RET]);
    assert_eq!(scene.faults(), [Fault::IndirectCall]);
}

#[test]
fn jump_table_within_the_function_is_accepted() {
    let walked = dispatcher(&[CODE + 16, CODE + 17]).walk().unwrap();
    assert_eq!((walked.jump_tables, walked.instructions), (1, 6));
}

#[test]
fn jump_table_that_leaves_the_function_is_red() {
    for cases in [
        &[SECOND, SECOND][..],
        &[CODE + 16, SECOND],
        &[CODE + 1, CODE + 16],
        &[CODE + 16],
        &[],
    ] {
        assert_eq!(dispatcher(cases).faults(), [Fault::IndirectJump]);
    }
}

#[test]
fn jump_table_that_may_change_is_red() {
    let mut scene = dispatcher(&[CODE + 16, CODE + 17]);
    scene.table_writable = true;
    assert_eq!(scene.faults(), [Fault::IndirectJump]);
}

#[test]
fn jump_through_a_table_base_that_one_path_replaces_is_red() {
    // je over `mov rcx,rdx`.
    let replaced = [0x74, 0x03, 0x48, 0x89, 0xd1];
    let mut scene = Scene::of(&[&table_base(CODE), &replaced, &DISPATCH, RET, RET]);
    scene.table = distances(&[CODE + 21, CODE + 22]);
    assert_eq!(scene.faults(), [Fault::IndirectJump]);
}

#[test]
fn table_of_addresses_is_accepted_when_they_stay_within_the_function() {
    // jmp [DATA+rax*8]
    let jump = [0xff, 0x24, 0xc5, 0x00, 0x40, 0x00, 0x00];
    let mut scene = Scene::of(&[&jump, RET, RET]);
    scene.table = [CODE + 7, CODE + 8].map(u64::to_le_bytes).concat();
    assert_eq!(scene.walk().unwrap().jump_tables, 1);
    scene.table = [SECOND, SECOND].map(u64::to_le_bytes).concat();
    assert_eq!(scene.faults(), [Fault::IndirectJump]);
}

#[test]
fn instruction_without_a_place_in_the_child_is_red() {
    let cases: [(&[u8], Fault); 6] = [
        (&[0x0f, 0x0b], Fault::Abort),
        (&[0xf0, 0x48, 0xff, 0x00], Fault::Lock),
        (&[0x48, 0x87, 0x08], Fault::Lock),
        (&[0xcd, 0x80], Fault::Foreign),
        (&[0x0f, 0x34], Fault::Foreign),
        (&[0x06], Fault::Undecodable),
    ];
    for (code, fault) in cases {
        assert_eq!(Scene::of(&[code, RET]).faults(), [fault]);
    }
}

#[test]
fn branch_into_an_instruction_and_call_to_no_function_are_red() {
    // jmp into the immediate of the mov behind it.
    let inside = Scene::of(&[&[0xeb, 0x01, 0xb8, 0, 0, 0, 0], RET]);
    let target = CODE + 3;
    assert_eq!(inside.faults(), [Fault::Astray { target }]);
    // call 0x1100, which is padding.
    let nowhere = Scene::of(&[&[0xe8, 0xfb, 0, 0, 0], RET]);
    let target = CODE + 0x100;
    assert_eq!(nowhere.faults(), [Fault::Astray { target }]);
}

#[test]
fn code_that_runs_on_past_its_end_is_red() {
    assert_eq!(Scene::of(&[&[0x90]]).faults(), [Fault::RunsOn]);
    assert_eq!(Scene::of(&[&[0x0f, 0x05]]).faults(), [Fault::RunsOn]);
    assert_eq!(Scene::of(&[]).faults(), [Fault::Undecodable]);
    // call SECOND, as the last instruction.
    let mut scene = Scene::of(&[&[0xe8, 0xfb, 0x07, 0, 0]]);
    assert_eq!(scene.faults(), [Fault::RunsOn]);
    scene.second = vec![0xeb, 0xfe];
    assert_eq!(scene.walk().unwrap().functions, 2);
}

#[test]
fn missing_entry_is_refused() {
    let image = Image::default();
    let refusal = Walker::new(&image, ENTRY, "cloison_linux").err();
    assert!(matches!(refusal, Some(Refusal::Entry { found: 0, .. })));
}

#[test]
fn bytes_that_are_no_program_are_refused() {
    let refusal = walk(b"#!/bin/sh\n", ENTRY, "cloison_linux");
    assert!(matches!(refusal, Err(Refusal::Unreadable(_))));
}
