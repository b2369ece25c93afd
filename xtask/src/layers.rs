//! `docs/layers.md`: each layer, what it needs, how it is read back, and what
//! attacks it.

use cloison_escape::probes::PROBES;
use cloison_sandbox::Layer;
use cloison_sandbox::posture::{Field, Knowledge};

use crate::error::Error;
use crate::table::table;

/// Where the meanings stand, as doc comments.
const SOURCE: &str = include_str!("../../crates/cloison-sandbox/src/layer.rs");

const HEAD: &str = "# Layers

Made by `cargo xtask docs`; a test compares it with the code.

*Requires* is what the kernel must offer, with the version that brought it.
*Read back* is how the parent knows the layer is on before the command starts:
read from the kernel (no mark), self-reported by the child before it ran
anything foreign, or unreadable, with the reason. *Probes* are the escape
probes that name the layer among those that hold them.

";

/// The whole document.
///
/// # Errors
/// [`Error::NoMeaning`]
pub(crate) fn document() -> Result<String, Error> {
    let rows: Result<Vec<_>, Error> = Layer::ALL.into_iter().map(row).collect();
    let header = [
        "layer",
        "meaning",
        "requires",
        "waivable",
        "read back",
        "probes",
    ];
    Ok(format!("{HEAD}{}", table(header, rows?)))
}

fn row(layer: Layer) -> Result<[String; 6], Error> {
    let meaning = meaning(SOURCE, layer).ok_or(Error::NoMeaning(layer))?;
    let requires = layer
        .requires()
        .iter()
        .map(|feature| format!("{} ({})", feature.name(), feature.since()));
    let fields = Field::of(layer)
        .iter()
        .map(|field| match field.knowledge() {
            Knowledge::Read => field.name().to_owned(),
            known => format!("{} ({known})", field.name()),
        });
    let probes = PROBES
        .iter()
        .filter(|probe| probe.layers.contains(&layer))
        .map(|probe| probe.id.to_uppercase());
    let waivable = if layer.is_waivable() { "yes" } else { "no" };
    Ok([
        layer.name().to_owned(),
        meaning,
        listed(requires, "-"),
        waivable.to_owned(),
        listed(fields, "-"),
        listed(probes, "unproved in this edition"),
    ])
}

fn listed(items: impl Iterator<Item = String>, none: &str) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() {
        none.to_owned()
    } else {
        items.join(", ")
    }
}

/// The doc comment of the variant in `source`.
fn meaning(source: &str, layer: Layer) -> Option<String> {
    let name = format!("{layer:?}");
    let mut said: Vec<&str> = Vec::new();
    for line in source.lines().map(str::trim) {
        if let Some(part) = line.strip_prefix("///") {
            said.push(part.trim());
            continue;
        }
        let rest = line.strip_prefix(name.as_str());
        if !said.is_empty() && rest.is_some_and(|rest| rest.starts_with([',', ' '])) {
            return Some(said.join(" "));
        }
        said.clear();
    }
    None
}

#[cfg(test)]
mod tests {
    use cloison_sandbox::Layer;

    use super::meaning;

    #[test]
    fn a_meaning_is_the_comment_above_the_variant() {
        let source = "/// Other.\nProcess,\n/// One,\n/// two.\nProc = 9,\n";
        assert_eq!(meaning(source, Layer::Proc).as_deref(), Some("One, two."));
    }

    #[test]
    fn a_variant_without_a_comment_has_no_meaning() {
        assert_eq!(meaning("/// Other.\nProcess,\nProc,\n", Layer::Proc), None);
        assert_eq!(meaning("/// Gone.\n", Layer::Proc), None);
    }
}
