//! A tenant's volumes and a provider's images: limits, walls, life and death.
//!
//! Loop devices have no namespace. Each case opens those of the machine to its
//! stage, gives back what it took, and fails where one is left.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod actor;
mod bounds;
mod ground;
mod images;
mod life;
mod walls;

use std::process::ExitCode;

use cloison_tests::Case;

const CASES: &[Case] = &[
    Case::new(
        "full_volume_of_an_image_starves_no_neighbour",
        bounds::image_on_disk,
    ),
    Case::new("full_volume_of_a_quota_starves_no_neighbour", bounds::quota),
    Case::new(
        "volume_on_btrfs_is_an_image_written_in_place",
        bounds::on_btrfs,
    ),
    Case::new("volume_that_cannot_be_had_says_why", bounds::refusals),
    Case::new(
        "volume_is_attached_once_on_the_whole_host",
        life::attached_once,
    ),
    Case::new("killed_attacher_leaves_no_loop_device", life::killed).lasting_s(180),
    Case::new(
        "full_host_leaves_no_half_volume_and_what_is_reserved",
        life::full_host,
    ),
    Case::new(
        "volume_grows_with_its_content_and_never_shrinks",
        life::grown,
    ),
    Case::new("volume_honours_no_setuid_and_no_device", walls::inert),
    Case::new(
        "new_volume_shows_nothing_of_a_removed_one",
        walls::remanence,
    ),
    Case::new("images_of_two_tenants_share_no_page", images::share_no_page),
    Case::new(
        "volumes_and_images_take_the_map_of_a_sandbox",
        images::mapped,
    ),
    Case::new(
        "image_that_a_tenant_could_have_made_is_refused",
        images::not_the_providers,
    ),
];

fn main() -> ExitCode {
    actor::play().unwrap_or_else(|| cloison_tests::main(CASES))
}
