//! Counts by range, as bars.

use super::look::{Look, Style};
use super::table::{self, Align, Cell, Column};
use super::text;

/// Cells of the longest bar.
const CELLS: u64 = 30;

/// One line a range: from where, how many, and a bar. `ranges` are lowest values and counts;
/// `show` writes a lowest value.
pub(super) fn bars(
    ranges: &[(u64, u64)],
    title: &str,
    show: fn(u64) -> String,
    look: &Look,
) -> String {
    let most = ranges.iter().map(|r| r.1).max().unwrap_or(0).max(1);
    let column = |title: &str, align| Column {
        title: title.to_owned(),
        band: "",
        apart: false,
        align,
        rank: 0,
    };
    let columns = [
        column(title, Align::Right),
        column("count", Align::Right),
        column("", Align::Left),
    ];
    let rows: Vec<Vec<Cell>> = ranges
        .iter()
        .map(|&(from, count)| {
            vec![
                show(from).into(),
                text::count(count).into(),
                Cell {
                    text: bar(count, most, look),
                    style: Style::Plain,
                },
            ]
        })
        .collect();
    table::render(&columns, &rows, look).text
}

/// As long as its share of `most`; anything at all is at least one cell.
fn bar(count: u64, most: u64, look: &Look) -> String {
    let cells = (u128::from(count) * u128::from(CELLS)).div_ceil(u128::from(most)) as usize;
    let cell = if look.ascii { "#" } else { "█" };
    cell.repeat(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_is_full_and_the_shortest_is_seen() {
        let look = Look {
            ascii: true,
            ..Look::default()
        };
        assert_eq!(bar(0, 1000, &look), "");
        assert_eq!(bar(1, 1000, &look), "#");
        assert_eq!(bar(u64::MAX, u64::MAX, &look).len(), CELLS as usize);
    }
}
