//! Tables that fit a width by leaving out whole columns, never by cutting a number.

use super::escape;
use super::look::{Look, Style};

/// Where a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its title.
    pub title: String,
    /// Title over it and its neighbours of the same band; empty: none.
    pub band: &'static str,
    /// Whether the band stands apart behind a bar.
    pub apart: bool,
    /// Where its cells stand.
    pub align: Align,
    /// Which columns a table too wide has: rank 0 always, then rank by rank those
    /// that still fit, all of one rank or none.
    pub rank: u8,
}

/// A cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Harmless text.
    pub text: String,
    /// What it is.
    pub style: Style,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell {
            text,
            style: Style::Plain,
        }
    }
}

/// A table, and which of its columns fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// Lines, each with its newline.
    pub text: String,
    /// Titles of the columns left out, in order.
    pub dropped: Vec<String>,
}

const GAP: usize = 2;

/// Columns that each column needs for its title and these rows.
#[must_use]
pub fn needed(columns: &[Column], rows: &[Vec<Cell>]) -> Vec<usize> {
    let mut widths: Vec<usize> = columns.iter().map(|c| escape::width(&c.title)).collect();
    for row in rows {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(escape::width(&cell.text));
        }
    }
    widths
}

/// Where the columns that fit stand, for who places cells himself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Which column, where it begins, how wide it is; from left to right.
    pub places: Vec<(usize, usize, usize)>,
    /// Where bars stand between columns that must not be mixed up.
    pub bars: Vec<usize>,
    /// The line of bands above the titles; empty where there is none.
    pub bands: String,
}

/// The places of columns so wide within the look's width.
#[must_use]
pub fn layout(columns: &[Column], widths: &[usize], look: &Look) -> Layout {
    let kept = choose(columns, widths, look.width);
    let widest = fit_bands(columns, &kept, widths);
    let mut out = Layout::default();
    let mut x = 0;
    for (n, &i) in kept.iter().enumerate() {
        let before = gap(columns, &kept, n, look);
        if before.contains(look.bar()) {
            out.bars.push(x + 1);
        }
        x += escape::width(&before);
        out.places.push((i, x, widest[i]));
        x += widest[i];
    }
    if kept.iter().any(|&i| !columns[i].band.is_empty()) {
        let plain = Look {
            color: false,
            ..*look
        };
        out.bands = bands(columns, &kept, &widest, &plain);
    }
    out
}

/// Lays out the rows, each as long as `columns`, within the look's width.
#[must_use]
pub fn render(columns: &[Column], rows: &[Vec<Cell>], look: &Look) -> Rendered {
    let widths = needed(columns, rows);
    let kept = choose(columns, &widths, look.width);
    let widest = fit_bands(columns, &kept, &widths);
    let mut out = String::new();
    if kept.iter().any(|&i| !columns[i].band.is_empty()) {
        push_trimmed(&mut out, &bands(columns, &kept, &widest, look));
    }
    let titles: Vec<Cell> = columns
        .iter()
        .map(|c| Cell {
            text: c.title.clone(),
            style: Style::Faint,
        })
        .collect();
    for row in std::iter::once(&titles).chain(rows) {
        let mut line = String::new();
        for (n, &i) in kept.iter().enumerate() {
            line.push_str(&gap(columns, &kept, n, look));
            let cell = &row[i];
            let pad = widest[i] - escape::width(&cell.text);
            // The last column's text needs no spaces behind it.
            let (before, after) = match columns[i].align {
                Align::Right => (pad, 0),
                Align::Left if n + 1 == kept.len() => (0, 0),
                Align::Left => (0, pad),
            };
            line.extend(std::iter::repeat_n(' ', before));
            line.push_str(&look.paint(cell.style, &cell.text));
            line.extend(std::iter::repeat_n(' ', after));
        }
        push_trimmed(&mut out, &line);
    }
    let dropped = (0..columns.len())
        .filter(|i| !kept.contains(i))
        .map(|i| columns[i].title.clone())
        .collect();
    Rendered { text: out, dropped }
}

/// The columns that fit: rank 0 in any case, then rank by rank what still fits.
fn choose(columns: &[Column], widths: &[usize], limit: Option<usize>) -> Vec<usize> {
    let all: Vec<usize> = (0..columns.len()).collect();
    let Some(limit) = limit else { return all };
    let fits = |kept: &[usize]| total(columns, kept, &fit_bands(columns, kept, widths)) <= limit;
    let mut ranks: Vec<u8> = columns.iter().map(|c| c.rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let mut kept_ranks = vec![0];
    let kept = |ranks: &[u8]| -> Vec<usize> {
        all.iter()
            .copied()
            .filter(|&i| ranks.contains(&columns[i].rank))
            .collect()
    };
    for rank in ranks.into_iter().filter(|rank| *rank > 0) {
        kept_ranks.push(rank);
        if !fits(&kept(&kept_ranks)) {
            kept_ranks.pop();
        }
    }
    kept(&kept_ranks)
}

fn push_trimmed(out: &mut String, line: &str) {
    out.push_str(line.trim_end());
    out.push('\n');
}

/// What stands before the `n`th kept column.
fn gap(columns: &[Column], kept: &[usize], n: usize, look: &Look) -> String {
    if n == 0 {
        return String::new();
    }
    let (before, this) = (&columns[kept[n - 1]], &columns[kept[n]]);
    if this.apart && before.band != this.band {
        format!(" {} ", look.bar())
    } else {
        " ".repeat(GAP)
    }
}

fn total(columns: &[Column], kept: &[usize], widths: &[usize]) -> usize {
    let plain = Look::default();
    kept.iter()
        .enumerate()
        .map(|(n, &i)| escape::width(&gap(columns, kept, n, &plain)) + widths[i])
        .sum()
}

/// Runs of kept columns of the same band: the first's and the last's place in `kept`.
fn runs(columns: &[Column], kept: &[usize]) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = Vec::new();
    for (n, &i) in kept.iter().enumerate() {
        match out.last_mut() {
            Some((first, last)) if columns[kept[*first]].band == columns[i].band => *last = n,
            _ => out.push((n, n)),
        }
    }
    out
}

/// Widths at which every band's title fits over its columns.
fn fit_bands(columns: &[Column], kept: &[usize], widths: &[usize]) -> Vec<usize> {
    let mut widths = widths.to_vec();
    for (first, last) in runs(columns, kept) {
        let span: usize =
            (first..=last).map(|n| widths[kept[n]]).sum::<usize>() + GAP * (last - first);
        let need = escape::width(columns[kept[first]].band);
        widths[kept[first]] += need.saturating_sub(span);
    }
    widths
}

fn bands(columns: &[Column], kept: &[usize], widths: &[usize], look: &Look) -> String {
    let mut line = String::new();
    for (first, last) in runs(columns, kept) {
        line.push_str(&gap(columns, kept, first, look));
        let span: usize =
            (first..=last).map(|n| widths[kept[n]]).sum::<usize>() + GAP * (last - first);
        let band = columns[kept[first]].band;
        let rest = span - escape::width(band);
        let mut over = band.to_owned();
        if !band.is_empty() && rest > 1 {
            over.push(' ');
            over.extend(std::iter::repeat_n(look.rule(), rest - 1));
        } else {
            over.extend(std::iter::repeat_n(' ', rest));
        }
        line.push_str(&look.paint(Style::Faint, &over));
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn column(title: &str, band: &'static str, rank: u8, align: Align) -> Column {
        Column {
            title: title.to_owned(),
            band,
            apart: band == "LIMITS",
            align,
            rank,
        }
    }

    fn columns() -> Vec<Column> {
        vec![
            column("name", "", 0, Align::Left),
            column("used", "MEMORY", 1, Align::Right),
            column("free", "MEMORY", 2, Align::Right),
            column("max", "LIMITS", 3, Align::Right),
        ]
    }

    fn rows() -> Vec<Vec<Cell>> {
        [["a", "1", "22", "333"], ["long name", "4444", "5", "6"]]
            .map(|row| row.map(|s| Cell::from(s.to_owned())).to_vec())
            .to_vec()
    }

    #[test]
    fn wide() {
        let got = render(&columns(), &rows(), &Look::default());
        assert_eq!(
            got.text,
            "           MEMORY ─── │ LIMITS\n\
             name       used  free │    max\n\
             a             1    22 │    333\n\
             long name  4444     5 │      6\n"
        );
        assert!(got.dropped.is_empty());
    }

    #[test]
    fn narrow_keeps_the_lowest_ranks() {
        let look = Look {
            width: Some(22),
            ascii: true,
            color: false,
        };
        let got = render(&columns(), &rows(), &look);
        assert_eq!(got.dropped, ["max"]);
        assert!(
            got.text.starts_with("           MEMORY ---\n"),
            "{}",
            got.text
        );
        let look = Look {
            width: Some(1),
            ..look
        };
        let got = render(&columns(), &rows(), &look);
        assert_eq!(got.text, "name\na\nlong name\n");
        assert_eq!(got.dropped, ["used", "free", "max"]);
    }

    #[test]
    fn places_are_where_the_text_has_its_columns() {
        let look = Look::default();
        let (columns, rows) = (columns(), rows());
        let got = layout(&columns, &needed(&columns, &rows), &look);
        let text = render(&columns, &rows, &look).text;
        let lines: Vec<Vec<char>> = text.lines().map(|l| l.chars().collect()).collect();
        assert_eq!(lines[0].iter().collect::<String>(), got.bands);
        assert_eq!(got.bars.len(), 1);
        assert!(lines.iter().all(|line| line[got.bars[0]] == '│'));
        for (i, x, width) in got.places {
            let cell: String = lines[3].iter().skip(x).take(width).collect();
            assert_eq!(cell.trim(), rows[1][i].text, "{i}");
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_whole_and_fits(width in 9usize..60) {
            let look = Look { width: Some(width), ..Look::default() };
            let got = render(&columns(), &rows(), &look);
            for line in got.text.lines() {
                prop_assert!(escape::width(line) <= width, "{line}");
            }
            for (i, c) in columns().iter().enumerate() {
                let shown = !got.dropped.contains(&c.title);
                for row in rows().iter().filter(|_| shown) {
                    prop_assert!(got.text.contains(&row[i].text));
                }
            }
        }
    }
}
