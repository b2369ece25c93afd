//! What needs no root; the rest is in the privileged tests.

use std::fs;

use super::*;
use crate::tree::tests::Place;

#[test]
fn ids_on_disk_are_never_the_hosts() {
    for first in [
        0,
        1,
        65535,
        u32::MAX,
        u32::MAX - 65535,
        u32::MAX - 65536 + 1,
    ] {
        assert_eq!(DiskIds::from_first(first), None, "{first}");
    }
    let ids = DiskIds::from_first(1 << 20).unwrap();
    assert_eq!(ids.shift(0), Some(1 << 20));
    assert_eq!(ids.shift(65535), Some((1 << 20) + 65535));
    assert_eq!(ids.shift(65536), None);
    assert!(DiskIds::from_first(u32::MAX - 65536).is_some());
}

#[test]
fn directory_that_holds_something_is_refused() {
    let place = Place::new();
    fs::create_dir_all(place.0.join("base")).unwrap();
    fs::create_dir_all(place.0.join("tree/.hidden")).unwrap();
    let ids = DiskIds::from_first(1 << 20).unwrap();
    let (base, tree) = (place.open("base"), place.open("tree"));
    let refused = copy(base.as_fd(), tree.as_fd(), ids, &Options::default());
    assert!(matches!(refused, Err(Error::NotEmpty)));
}
