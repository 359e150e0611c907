//! The heart of k-anonymity: what may be told so that behind each number, and behind what follows from the numbers, are at least
//! `k` customers or none.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use petgraph::{algo::bridges, graphmap::UnGraphMap};

/// Where customers are counted: a row and a column.
pub type Cell = (u32, u32);

/// The customers of each part of something, by number.
pub type Customers<T> = BTreeMap<T, HashSet<u32>>;

/// Values that may be told of customers who each have one: those with at least `k` customers, unless fewer would remain.
pub fn values(counts: &BTreeMap<String, i64>, k: i64) -> BTreeSet<&str> {
    let mut told: BTreeSet<&str> = counts.iter().filter(|(_, n)| **n >= k).map(|(value, _)| value.as_str()).collect();
    loop {
        let remaining: i64 = counts.iter().filter(|(value, _)| !told.contains(value.as_str())).map(|(_, n)| n).sum();
        let smallest = told.iter().min_by_key(|value| counts[**value]).copied();
        match smallest {
            Some(smallest) if remaining > 0 && remaining < k => told.remove(smallest),
            _ => return told,
        };
    }
}

/// The parts that must not be told, by the same rule, where a customer may be in several.
pub fn untold<T: Ord + Clone>(customers: &Customers<T>, k: usize) -> BTreeSet<T> {
    let few = customers.iter().filter(|(_, of)| of.len() < k).map(|(part, _)| part.clone());
    let mut untold: BTreeSet<T> = few.collect();
    let of = |parts: &BTreeSet<T>| union(parts.iter().map(|part| &customers[part]), k);
    while !untold.is_empty() && of(&untold) < k {
        let told = customers.iter().filter(|(part, _)| !untold.contains(part));
        let Some((smallest, _)) = told.min_by_key(|(_, of)| of.len()) else { break };
        untold.insert(smallest.clone());
    }
    untold
}

/// How many customers some sets have together, or `k` if that many.
fn union<'a>(sets: impl Iterator<Item = &'a HashSet<u32>>, k: usize) -> usize {
    let mut together: HashSet<u32> = HashSet::new();
    for set in sets {
        together.extend(set);
        if together.len() >= k {
            return k;
        }
    }
    together.len()
}

/// A row or a column, or what stands for all rows or all columns whose sums are told together only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Line {
    Row(u32),
    Column(u32),
    Rows,
    Columns,
}

/// A table of which the sums of rows and columns are told but for some.
pub struct Table<'a> {
    pub customers: &'a Customers<Cell>,
    pub untold_rows: &'a BTreeSet<u32>,
    pub untold_columns: &'a BTreeSet<u32>,
    pub k: usize,
}

impl Table<'_> {
    /// The cells that may be told: those with at least `k` customers in rows and columns that are told, unless a cell with fewer
    /// followed from them and from the sums, or fewer remained of a line than `k`.
    ///
    /// What is not told is a graph, with a node for each line and an edge for each cell, and two more nodes for the rows and for the
    /// columns that are told together, to which the sum of each of them is an edge. What an edge stands for follows from the
    /// others just when it is a bridge (Gusfield 1988, A graph theoretic approach to statistical data security). What lies both
    /// in those rows and in those columns follows as a whole.
    pub fn told(&self) -> BTreeSet<Cell> {
        let open = |cell: &Cell| !self.untold_rows.contains(&cell.0) && !self.untold_columns.contains(&cell.1);
        let aside = self
            .customers
            .iter()
            .filter(|(cell, _)| self.untold_rows.contains(&cell.0) && self.untold_columns.contains(&cell.1));
        let aside: Vec<&HashSet<u32>> = aside.map(|(_, of)| of).collect();
        if !aside.is_empty() && union(aside.into_iter(), self.k) < self.k {
            return BTreeSet::new();
        }
        let may = self.customers.iter().filter(|(cell, of)| of.len() >= self.k && open(cell));
        let mut told: BTreeSet<Cell> = may.map(|(cell, _)| *cell).collect();
        loop {
            let exposed = self.exposed(&told);
            if exposed.is_empty() {
                return told;
            }
            for cell in exposed {
                // What crosses it is the nearest to hide it behind.
                let beside = |other: &&Cell| other.0 == cell.0 || other.1 == cell.1;
                let smallest = |other: &&Cell| self.customers[*other].len();
                let hide = told.iter().filter(beside).min_by_key(smallest).or_else(|| told.iter().min_by_key(smallest));
                let Some(hide) = hide.copied() else { break };
                told.remove(&hide);
            }
        }
    }

    /// Cells that are not told and yet too plain: of each line that shows too much, or whose own value follows.
    fn exposed(&self, told: &BTreeSet<Cell>) -> Vec<Cell> {
        if told.is_empty() {
            return Vec::new();
        }
        let mut graph: UnGraphMap<Line, ()> = UnGraphMap::new();
        let mut hidden: BTreeMap<Line, Vec<Cell>> = BTreeMap::new();
        for cell in self.customers.keys().filter(|cell| !told.contains(cell)) {
            graph.add_edge(Line::Row(cell.0), Line::Column(cell.1), ());
            hidden.entry(Line::Row(cell.0)).or_default().push(*cell);
            hidden.entry(Line::Column(cell.1)).or_default().push(*cell);
        }
        for line in self.untold_rows.iter().map(|row| Line::Row(*row)) {
            graph.add_edge(line, Line::Rows, ());
        }
        for line in self.untold_columns.iter().map(|column| Line::Column(*column)) {
            graph.add_edge(line, Line::Columns, ());
        }
        let follows: BTreeSet<Cell> = bridges(&graph)
            .filter_map(|(one, other, ())| match (one, other) {
                (Line::Row(row), Line::Column(column)) | (Line::Column(column), Line::Row(row)) => Some((row, column)),
                _ => None,
            })
            .collect();
        let mut exposed: Vec<Cell> =
            follows.iter().filter(|cell| self.customers[cell].len() < self.k).copied().collect();
        for (line, cells) in hidden {
            let is_told = match line {
                Line::Row(row) => !self.untold_rows.contains(&row),
                Line::Column(column) => !self.untold_columns.contains(&column),
                Line::Rows | Line::Columns => false,
            };
            let remain: Vec<Cell> = cells.into_iter().filter(|cell| !follows.contains(cell)).collect();
            if is_told && !remain.is_empty() && union(remain.iter().map(|cell| &self.customers[cell]), self.k) < self.k
            {
                exposed.push(remain[0]);
            }
        }
        exposed
    }
}

#[cfg(test)]
mod tests {
    use nalgebra::DMatrix;
    use proptest::prelude::*;

    use super::*;

    /// Whether the value of a cell follows from all that is told, by solving the sums as equations.
    fn follows(table: &Table, told: &BTreeSet<Cell>, cell: Cell) -> bool {
        let hidden: Vec<Cell> = table.customers.keys().filter(|cell| !told.contains(cell)).copied().collect();
        let of = |is: &dyn Fn(&Cell) -> bool| hidden.iter().map(|cell| f64::from(u8::from(is(cell)))).collect();
        let mut equations: Vec<Vec<f64>> =
            vec![of(&|cell| table.untold_rows.contains(&cell.0)), of(&|cell| table.untold_columns.contains(&cell.1))];
        for line in 0..5 {
            if !table.untold_rows.contains(&line) {
                equations.push(of(&|cell| cell.0 == line));
            }
            if !table.untold_columns.contains(&line) {
                equations.push(of(&|cell| cell.1 == line));
            }
        }
        let rank = |rows: &[Vec<f64>]| DMatrix::from_fn(rows.len(), hidden.len(), |i, j| rows[i][j]).rank(1e-9);
        let before = rank(&equations);
        equations.push(hidden.iter().map(|other| f64::from(u8::from(*other == cell))).collect());
        rank(&equations) == before
    }

    proptest! {
        #[test]
        fn no_value_and_no_remainder_is_of_fewer(counts in prop::collection::btree_map("[a-f]", 1i64..30, 0..6), k in 1i64..25) {
            let told = values(&counts, k);
            let (known, rest): (Vec<_>, Vec<_>) = counts.iter().partition(|(value, _)| told.contains(value.as_str()));
            prop_assert!(known.iter().all(|(_, n)| **n >= k));
            let rest: i64 = rest.into_iter().map(|(_, n)| n).sum();
            // Where everybody is fewer, nothing is told.
            prop_assert!(rest == 0 || rest >= k || told.is_empty());
            // The same of sets that share nobody.
            let sets = (0u32..).zip(&counts).map(|(i, (value, n))| {
                (value.clone(), (0..*n as u32).map(|customer| i * 100 + customer).collect())
            });
            let untold = untold(&sets.collect(), k as usize);
            prop_assert!(counts.keys().all(|value| untold.contains(value) != told.contains(value.as_str())));
        }

        #[test]
        fn no_cell_of_fewer_follows_from_what_is_told(
            bought in prop::collection::vec((0u32..5, 0u32..5, 0u32..12), 0..150), k in 1usize..6,
        ) {
            let mut customers: Customers<Cell> = BTreeMap::new();
            let (mut rows, mut columns): (Customers<u32>, Customers<u32>) = Default::default();
            for (row, column, customer) in bought {
                customers.entry((row, column)).or_default().insert(customer);
                rows.entry(row).or_default().insert(customer);
                columns.entry(column).or_default().insert(customer);
            }
            let (untold_rows, untold_columns) = (untold(&rows, k), untold(&columns, k));
            let table = Table { customers: &customers, untold_rows: &untold_rows, untold_columns: &untold_columns, k };
            let told = table.told();
            for (cell, of) in &customers {
                let closed = untold_rows.contains(&cell.0) || untold_columns.contains(&cell.1);
                prop_assert!(!told.contains(cell) || of.len() >= k && !closed);
                prop_assert!(of.len() >= k || told.is_empty() || !follows(&table, &told, *cell), "{cell:?} follows");
            }
            for i in 0..5 {
                for (by_row, is_untold) in [(true, untold_rows.contains(&i)), (false, untold_columns.contains(&i))] {
                    let in_line = |cell: &Cell| if by_row { cell.0 == i } else { cell.1 == i };
                    let remaining = customers.iter().filter(|(cell, _)| in_line(cell) && !told.contains(cell));
                    let remaining: HashSet<u32> = remaining.flat_map(|(_, of)| of).copied().collect();
                    prop_assert!(is_untold || told.is_empty() || remaining.is_empty() || remaining.len() >= k);
                }
            }
            // Nothing is kept back without need.
            if customers.values().all(|of| of.len() >= k) {
                prop_assert_eq!(told.len(), customers.len());
            }
        }
    }
}
