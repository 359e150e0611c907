use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use aws_lc_rs::digest;
use serde_json::json;

/// What an import remembers: how far the streams were acknowledged, and which rows were refused.
pub struct Journal {
    progress: PathBuf,
    errors_path: PathBuf,
    errors: Option<fs::File>,
    refused: u64,
}

impl Journal {
    /// The journal of a file, known by its contents.
    pub fn open(state: &Path, contents: &[u8], errors: Option<PathBuf>) -> anyhow::Result<Self> {
        let folder = state.join("imports");
        fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        let hash = digest::digest(&digest::SHA256, contents);
        let name: String = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let errors_path = errors.unwrap_or_else(|| folder.join(format!("{name}.errors.ndjson")));
        Ok(Self { progress: folder.join(format!("{name}.acknowledged")), errors_path, errors: None, refused: 0 })
    }

    /// How many items of the stream an earlier run saw acknowledged.
    pub fn acknowledged(&self, stream: &str) -> u64 {
        let text = fs::read_to_string(self.progress.with_extension(stream)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Remembers that so many items of the stream, from the first, are acknowledged.
    pub fn acknowledge(&self, stream: &str, count: u64) -> anyhow::Result<()> {
        let path = self.progress.with_extension(stream);
        // A rename is whole or not at all, so a kill leaves the old number or the new one.
        let new = path.with_extension("new");
        fs::write(&new, count.to_string())?;
        Ok(fs::rename(new, path)?)
    }

    /// Writes down a refused row with its line, counted from 1.
    pub fn refuse(&mut self, line: usize, reason: &str, fields: &[String]) -> anyhow::Result<()> {
        if self.errors.is_none() {
            self.errors = Some(fs::File::create(&self.errors_path)?);
        }
        if let Some(errors) = &mut self.errors {
            writeln!(errors, "{}", json!({"line": line, "reason": reason, "invalid_fields": fields}))?;
        }
        self.refused += 1;
        Ok(())
    }

    /// Forgets the progress, so that the next run checks everything anew, and fails when rows were
    /// refused.
    pub fn finish(self) -> anyhow::Result<()> {
        for stream in ["orders", "interactions"] {
            let _ = fs::remove_file(self.progress.with_extension(stream));
        }
        match self.refused {
            0 => Ok(()),
            refused => anyhow::bail!("{refused} rows were refused; see {}", self.errors_path.display()),
        }
    }
}
