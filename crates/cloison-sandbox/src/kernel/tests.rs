//! What holds for every feature and every layer.

use std::collections::BTreeSet;

use super::*;
use crate::{Layer, Waivers};

fn users(feature: Feature) -> Vec<Layer> {
    Layer::ALL
        .into_iter()
        .filter(|layer| layer.requires().contains(&feature))
        .collect()
}

#[test]
fn a_kernel_without_x_names_layer_feature_and_remedy_for_every_x() {
    let none = Waivers::none();
    let complete = Kernel::complete();
    assert_eq!(complete.require(&Layer::ALL, &none), Ok(()));
    for &feature in Feature::ALL {
        let kernel = complete.clone().without(feature);
        let required = kernel.require(&Layer::ALL, &none);
        let Some(&layer) = users(feature).first() else {
            assert_eq!(required, Ok(()), "{feature} is optional");
            assert!(feature.lost_without().is_some(), "{feature}: what is lost?");
            continue;
        };
        assert_eq!(feature.lost_without(), None, "{feature} is required");
        let told = required.map_err(|missing| (missing.layer, missing.feature, missing.remedy));
        assert_eq!(told, Err((layer, feature, feature.remedy())));
        let message = required.err().map(|missing| missing.to_string());
        let message = message.unwrap_or_default();
        for part in [layer.name(), feature.name(), feature.since()] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
        assert!(message.contains(feature.option().unwrap_or_default()));
    }
}

#[test]
fn only_a_waiver_of_that_very_layer_lets_a_host_go_without_it() {
    for &feature in Feature::ALL {
        let kernel = Kernel::complete().without(feature);
        for layer in Layer::ALL.into_iter().filter(|layer| layer.is_waivable()) {
            let mut waivers = Waivers::none();
            assert_eq!(waivers.waive(layer, "a reason"), Ok(()));
            let users = users(feature);
            let covered = users.iter().all(|user| *user == layer);
            assert_eq!(
                kernel.require(&Layer::ALL, &waivers).is_ok(),
                covered,
                "{feature}, {layer} waived"
            );
            let waived = LayerVerdict::Waived("a reason".to_owned());
            assert_eq!(
                kernel.verdict(layer, &waivers) == waived,
                users.contains(&layer)
            );
        }
    }
}

#[test]
fn a_waiver_takes_nothing_away_where_the_layer_can_be_had() {
    let mut waivers = Waivers::none();
    assert_eq!(waivers.waive(Layer::LandlockScope, "an old kernel"), Ok(()));
    assert_eq!(
        Kernel::complete().verdict(Layer::LandlockScope, &waivers),
        LayerVerdict::Applied
    );
}

#[test]
fn a_layer_is_not_needed_only_when_nothing_of_it_is() {
    let none = Waivers::none();
    let layer = Layer::SpeculationControl;
    let mut kernel = Kernel::complete();
    let unneeded = State::NotNeeded(NotNeeded::NotAffected);
    kernel.states.insert(Feature::StoreBypassControl, unneeded);
    assert_eq!(kernel.verdict(layer, &none), LayerVerdict::Applied);
    assert!(!kernel.has(Feature::StoreBypassControl));
    kernel
        .states
        .insert(Feature::IndirectBranchControl, unneeded);
    assert_eq!(
        kernel.verdict(layer, &none),
        LayerVerdict::NotNeeded(NotNeeded::NotAffected)
    );
    let kernel = kernel.without(Feature::IndirectBranchControl);
    assert!(matches!(
        kernel.verdict(layer, &none),
        LayerVerdict::Unavailable(Unavailable {
            feature: Feature::IndirectBranchControl,
            ..
        })
    ));
}

#[test]
fn every_remedy_and_name_can_be_told_apart_and_read_in_one_line() {
    let names: BTreeSet<_> = Feature::ALL.iter().map(|f| f.name()).collect();
    assert_eq!(names.len(), Feature::ALL.len());
    for feature in Feature::ALL {
        for text in [feature.remedy(), feature.lost_without().unwrap_or("x")] {
            assert!(!text.is_empty() && text.len() <= 160, "{feature}: {text}");
            assert!(!text.ends_with('.') && !text.contains('\n'), "{feature}");
        }
    }
}

#[test]
fn a_remedy_offers_a_waiver_exactly_where_a_waiver_would_help() {
    for &feature in Feature::ALL {
        let users = users(feature);
        let waivable = !users.is_empty() && users.iter().all(|layer| layer.is_waivable());
        assert_eq!(
            feature.remedy().contains("or waive "),
            waivable,
            "{feature}"
        );
        if waivable {
            for layer in users {
                let offer = format!("waive {layer} in host.toml");
                assert!(feature.remedy().contains(&offer), "{feature}");
            }
        }
    }
}

#[test]
fn what_was_not_tried_is_absent() {
    let kernel = Kernel {
        release: String::new(),
        states: BTreeMap::new(),
    };
    for &feature in Feature::ALL {
        assert!(!kernel.has(feature) && !kernel.state(feature).is_met());
    }
}

#[test]
fn programs_read_every_feature_with_state_reason_and_remedy() -> Result<(), serde_json::Error> {
    let kernel = Kernel::complete().without(Feature::PidfdExitInfo);
    let json = serde_json::to_value(&kernel)?;
    let features = json["features"].as_array().map(Vec::as_slice);
    assert_eq!(features.map(<[_]>::len), Some(Feature::ALL.len()));
    for entry in features.unwrap_or_default() {
        let absent = entry["feature"] == "pidfd-exit-info";
        assert_eq!(entry["state"], if absent { "absent" } else { "present" });
        for key in ["reason", "remedy", "lost"] {
            assert_eq!(entry[key].is_string(), absent, "{key} of {entry}");
        }
    }
    Ok(())
}
