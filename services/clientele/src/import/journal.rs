use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use aws_lc_rs::digest;
use serde_json::{Value, json};

/// What an import remembers: how far each stream was accepted, and which rows were refused.
pub struct Journal {
    progress: PathBuf,
    errors: PathBuf,
    /// What an earlier run that broke off wrote down, by line.
    earlier: BTreeMap<usize, Vec<Value>>,
    refused: BTreeMap<usize, Vec<Value>>,
    /// Whether how far an import came stays as it is.
    dry_run: bool,
}

impl Journal {
    /// The journal of a file, known by its contents.
    pub fn open(state: &Path, contents: &[u8], errors: Option<PathBuf>, dry_run: bool) -> anyhow::Result<Self> {
        let folder = state.join("imports");
        fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        let hash = digest::digest(&digest::SHA256, contents);
        let name: String = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let kind = if dry_run { "dry-run.errors" } else { "errors" };
        let errors = errors.unwrap_or_else(|| folder.join(format!("{name}.{kind}.ndjson")));
        let earlier = fs::read_to_string(&errors).unwrap_or_default();
        let earlier = earlier.lines().filter_map(|row| serde_json::from_str::<Value>(row).ok());
        let mut by_line: BTreeMap<usize, Vec<Value>> = BTreeMap::new();
        for (line, row) in earlier.filter_map(|row| Some((row["line"].as_u64()? as usize, row))) {
            by_line.entry(line).or_default().push(row);
        }
        Ok(Self { progress: folder.join(name), errors, earlier: by_line, refused: BTreeMap::new(), dry_run })
    }

    /// How many items of the stream, from the first, an earlier run saw dealt with. The last of them
    /// was accepted.
    pub fn accepted(&self, stream: &str) -> usize {
        let text = fs::read_to_string(self.progress.with_extension(stream)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Remembers that so many items of the stream, from the first, were dealt with, and before that
    /// which of them were refused.
    pub fn accept(&self, stream: &str, count: usize) -> anyhow::Result<()> {
        self.write_errors()?;
        replace(&self.progress.with_extension(stream), &count.to_string())
    }

    /// Writes down why a row or something in it was refused, with its line, counted from 1.
    pub fn refuse(&mut self, line: usize, reason: &str, fields: &[String]) {
        let refusal = json!({"line": line, "reason": reason, "invalid_fields": fields});
        self.refused.entry(line).or_default().push(refusal);
    }

    /// Keeps what an earlier run refused of a row that is not sent again.
    pub fn keep(&mut self, line: usize) {
        if let Some(rows) = self.earlier.remove(&line) {
            self.refused.insert(line, rows);
        }
    }

    /// Forgets the progress, so that the next run checks everything anew, and fails when rows were
    /// refused.
    pub fn finish(self) -> anyhow::Result<()> {
        self.write_errors()?;
        for stream in ["orders", "interactions"].into_iter().filter(|_| !self.dry_run) {
            let _ = fs::remove_file(self.progress.with_extension(stream));
        }
        match self.refused.len() {
            0 => Ok(()),
            refused => anyhow::bail!("{refused} rows were refused, whole or in part; see {}", self.errors.display()),
        }
    }

    fn write_errors(&self) -> anyhow::Result<()> {
        if self.refused.is_empty() {
            let _ = fs::remove_file(&self.errors);
            return Ok(());
        }
        replace(&self.errors, &self.refused.values().flatten().map(|row| format!("{row}\n")).collect::<String>())
    }
}

/// A rename is whole or not at all, so a kill leaves the old text or the new one.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, text).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(fs::rename(new, path)?)
}
