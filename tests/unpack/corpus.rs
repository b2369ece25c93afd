//! The corpus: every type of entry x hostile names x links before and after.

use crate::archive::{Item, Naming, Squeezed};
use crate::escapes::{OUTSIDE, TREE};

/// One archive.
pub(crate) struct Sample {
    pub(crate) kind: &'static str,
    pub(crate) name: &'static str,
    pub(crate) links: &'static str,
    pub(crate) items: Vec<Item>,
    pub(crate) squeezed: Squeezed,
}

impl Sample {
    pub(crate) fn about(&self) -> String {
        format!(
            "{} named {}, {}, {:?}",
            self.kind, self.name, self.links, self.squeezed
        )
    }
}

const CONTENT: &[u8] = b"hostile";

/// Every type, what it is called, and how it is changed.
fn kinds() -> Vec<(&'static str, Item)> {
    let item = |kind: u8| Item::new(b"", kind);
    let file = |kind: u8| Item {
        content: CONTENT.to_vec(),
        mode: 0o4777,
        owner: 1000,
        ..item(kind)
    };
    let link = |kind: u8, target: &str| Item::link(b"", kind, target.as_bytes());
    let outside = |path: &str| format!("{OUTSIDE}/{path}");
    let sparse = Item {
        records: vec![
            ("GNU.sparse.map", b"8192,7".to_vec()),
            ("GNU.sparse.size", b"9000".to_vec()),
        ],
        ..file(b'0')
    };
    let attributes = Item {
        records: vec![
            ("SCHILY.xattr.user.hostile", b"1".to_vec()),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc".to_vec()),
        ],
        ..file(b'0')
    };
    vec![
        ("file", file(b'0')),
        ("old file", file(0)),
        ("contiguous file", file(b'7')),
        ("sparse file", file(b'S')),
        ("sparse file of pax", sparse),
        ("file with attributes", attributes),
        (
            "directory",
            Item {
                mode: 0o7777,
                owner: 1000,
                ..item(b'5')
            },
        ),
        (
            "directory with content",
            Item {
                content: CONTENT.to_vec(),
                ..item(b'5')
            },
        ),
        ("link to a file outside", link(b'2', "../sibling")),
        ("link to a directory outside", link(b'2', OUTSIDE)),
        (
            "link with content",
            Item {
                content: CONTENT.to_vec(),
                ..link(b'2', "../sibling")
            },
        ),
        ("hard link outside", link(b'1', "../sibling")),
        (
            "hard link by an absolute name",
            link(b'1', &outside("file")),
        ),
        ("hard link through a link", link(b'1', "link/file")),
        ("hard link to a link", link(b'1', "link")),
        (
            "hard link with content",
            Item {
                content: CONTENT.to_vec(),
                ..link(b'1', "../sibling")
            },
        ),
        ("hard link to the archive's", link(b'1', "first")),
        ("FIFO", item(b'6')),
        ("character device", item(b'3')),
        ("block device", item(b'4')),
        ("socket", item(b's')),
        (
            "dump directory",
            Item {
                content: CONTENT.to_vec(),
                ..item(b'D')
            },
        ),
        ("part of a volume", item(b'M')),
        ("label of a volume", item(b'V')),
        ("unknown type", file(b'Z')),
    ]
}

/// Names, and what they are called.
fn names() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("plain", text("plain")),
        ("the link", text("link")),
        ("the link with a slash", text("link/")),
        ("a file beneath the link", text("link/file")),
        ("new beneath the link", text("link/new")),
        ("deep beneath the link", text("link/deep/er/new")),
        ("dots and the link", text("./link/.//file")),
        ("back out of the link", text("link/../file")),
        ("beneath a nested link", text("dir/link/file")),
        ("sibling", text("../sibling")),
        ("new sibling", text("../new")),
        ("far sibling", text("../../outside/file")),
        ("hidden dots", text("a/../../sibling")),
        ("dots at the end", text("dir/../..")),
        ("absolute", text(&format!("{OUTSIDE}/file"))),
        ("absolute and new", text(&format!("{OUTSIDE}/new"))),
        (
            "absolute with two slashes",
            text(&format!("/{OUTSIDE}/file")),
        ),
        ("absolute back in", text(&format!("{TREE}/plain"))),
        ("empty", text("")),
        ("dot", text(".")),
        ("dot and slash", text("./")),
        ("dots", text("..")),
        ("slash", text("/")),
        ("NUL", b"plain\0/../../sibling".to_vec()),
        (
            "control bytes",
            b"\x1b]0;x\x07\r\n\xff\xfe\xe2\x80\xae".to_vec(),
        ),
        ("long component", vec![b'c'; 300]),
        ("longest component", vec![b'c'; 255]),
        ("long path", b"0123456789/".repeat(500)),
        ("deep path", b"d/".repeat(300)),
        ("beneath a file", text("first/new")),
    ]
}

/// Entries before and after, and what they are called.
fn links() -> Vec<(&'static str, Vec<Item>, Vec<Item>)> {
    let link = |target: &str| vec![Item::link(b"link", b'2', target.as_bytes())];
    let hard = |target: &str| vec![Item::link(b"link", b'1', target.as_bytes())];
    let nested = |target: &str| {
        vec![
            Item::directory(b"dir"),
            Item::link(b"dir/link", b'2', target.as_bytes()),
        ]
    };
    let hop = vec![
        Item::link(b"hop", b'2', b".."),
        Item::link(b"link", b'2', b"hop/../outside"),
    ];
    let replaced = vec![
        Item::directory(b"link"),
        Item::file(b"link/own", b""),
        Item::link(b"link", b'2', OUTSIDE.as_bytes()),
    ];
    let swapped = vec![
        Item::directory(b"link"),
        Item::link(b"link", b'2', OUTSIDE.as_bytes()),
    ];
    vec![
        ("nothing before", Vec::new(), Vec::new()),
        ("a link to a directory before", link(OUTSIDE), Vec::new()),
        ("a link to a file before", link("../sibling"), Vec::new()),
        ("a link upwards before", link("../.."), Vec::new()),
        ("a link to itself before", link("link"), Vec::new()),
        ("two links before", hop, Vec::new()),
        ("a nested link before", nested(OUTSIDE), Vec::new()),
        ("a hard link before", hard("../sibling"), Vec::new()),
        ("a directory become a link before", swapped, Vec::new()),
        (
            "a full directory become a link before",
            replaced,
            Vec::new(),
        ),
        ("a link after", Vec::new(), link(OUTSIDE)),
        ("a nested link after", Vec::new(), nested("../..")),
    ]
}

/// Every archive.
pub(crate) fn samples() -> impl Iterator<Item = Sample> {
    const SQUEEZED: [Squeezed; 8] = [
        Squeezed::No,
        Squeezed::Gzip,
        Squeezed::No,
        Squeezed::Zstd,
        Squeezed::No,
        Squeezed::Xz,
        Squeezed::No,
        Squeezed::No,
    ];
    let (kinds, names, links) = (kinds(), names(), links());
    let mut samples = Vec::new();
    for (kind, item) in &kinds {
        for (name, bytes) in &names {
            for (about, before, after) in &links {
                let naming = match bytes.contains(&0) || samples.len() % 3 == 0 {
                    true => Naming::Pax,
                    false => Naming::Header,
                };
                let mut items = vec![Item::file(b"first", b"first")];
                items.extend(before.iter().cloned());
                let named = Item {
                    name: bytes.clone(),
                    naming: if bytes.is_empty() {
                        Naming::Header
                    } else {
                        naming
                    },
                    ..item.clone()
                };
                items.push(named.clone());
                items.extend(after.iter().cloned());
                if !after.is_empty() {
                    items.push(named);
                }
                items.push(Item::file(b"last", b"last"));
                samples.push(Sample {
                    kind,
                    name,
                    links: about,
                    items,
                    squeezed: SQUEEZED[samples.len() % SQUEEZED.len()],
                });
            }
        }
    }
    samples.into_iter()
}
