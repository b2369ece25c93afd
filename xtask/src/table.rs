//! Tables of Markdown.

/// A table under `header`; a bar in a cell does not end it.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut text = row(&header.map(str::to_owned));
    text.push_str(&row(&header.map(|_| "---".to_owned())));
    for cells in rows {
        text.push_str(&row(&cells));
    }
    text
}

fn row(cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_bar_does_not_end_a_cell() {
        let made = super::table(["a", "b"], [["x|y".to_owned(), "z".to_owned()]]);
        assert_eq!(made, "| a | b |\n| --- | --- |\n| x\\|y | z |\n");
    }
}
