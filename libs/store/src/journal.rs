//! The erasure journal: who was erased, kept outside the database, so that no backup brings anybody back.
//! Each process writes a file of its own, and every start reads all of them.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use access::{Call, Caller, Purpose};
use anyhow::Context;
use chrono::Utc;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{Db, Fault};

/// So many customers are asked for at once.
const AT_ONCE: usize = 1000;

/// One service's part of the journal.
#[derive(Clone)]
pub(crate) struct Journal(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    /// This process's file, made at its first erasure.
    file: Mutex<Option<File>>,
}

/// A line of the journal.
#[derive(Deserialize, Serialize)]
struct Entry {
    customer_id: Uuid,
    time: String,
}

impl Journal {
    /// Opens the journal that belongs to a database, and ties the two together at the first start.
    pub async fn open(folder: PathBuf, connection: &mut PgConnection) -> anyhow::Result<Self> {
        let id =
            identity(&folder).with_context(|| format!("the erasure journal {} cannot be used", folder.display()))?;
        let query = sqlx::query_scalar!(
            r#"update feed set journal_id = coalesce(journal_id, $1) returning journal_id as "journal_id!""#,
            id
        );
        anyhow::ensure!(
            query.fetch_one(connection).await? == id,
            "the erasure journal {} belongs to another database; give the one that this database was served with",
            folder.display()
        );
        Ok(Self(Arc::new(Inner { folder, file: Mutex::new(None) })))
    }

    /// Writes an erasure down before it is done. It is on disk when this answers.
    pub async fn append(&self, customer_id: Uuid) -> io::Result<()> {
        let journal = self.clone();
        let written = tokio::task::spawn_blocking(move || journal.write(customer_id)).await;
        written.map_err(io::Error::other)?
    }

    fn write(&self, customer_id: Uuid) -> io::Result<()> {
        let mut file = self.0.file.lock().expect("no holder panics");
        if file.is_none() {
            let path = self.0.folder.join(format!("{}.ndjson", Uuid::now_v7()));
            let new = OpenOptions::new().append(true).create_new(true).open(path)?;
            File::open(&self.0.folder)?.sync_all()?;
            *file = Some(new);
        }
        let entry = Entry { customer_id, time: Utc::now().to_rfc3339() };
        let line = serde_json::to_string(&entry).map_err(io::Error::other)? + "\n";
        let written =
            file.as_mut().map_or(Ok(()), |file| file.write_all(line.as_bytes()).and_then(|()| file.sync_all()));
        if written.is_err() {
            // Its last line may be cut, so nothing may follow it.
            *file = None;
        }
        written
    }

    fn read(&self) -> anyhow::Result<BTreeSet<Uuid>> {
        let mut erased = BTreeSet::new();
        for file in fs::read_dir(&self.0.folder)? {
            let path = file?.path();
            if path.extension().is_none_or(|extension| extension != "ndjson") {
                continue;
            }
            let text = fs::read_to_string(&path)?;
            // What follows the last line's end was cut short, so its erasure was never begun.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            for (i, line) in whole.lines().enumerate() {
                let entry: Entry = serde_json::from_str(line)
                    .with_context(|| format!("line {} of {} is no erasure", i + 1, path.display()))?;
                erased.insert(entry.customer_id);
            }
        }
        Ok(erased)
    }
}

/// The journal's own id, made where there is none. Of several processes that start at once, one makes it.
fn identity(folder: &std::path::Path) -> anyhow::Result<Uuid> {
    fs::create_dir_all(folder)?;
    let path = folder.join("id");
    if !path.exists() {
        let beside = folder.join(format!("{}.new", Uuid::new_v4()));
        let mut file = File::create_new(&beside)?;
        file.write_all(Uuid::new_v4().to_string().as_bytes())?;
        file.sync_all()?;
        let linked = fs::hard_link(&beside, &path);
        fs::remove_file(&beside)?;
        if let Err(error) = linked
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error.into());
        }
        // The folder and what it lies in: the database is about to know this id.
        for folder in folder.ancestors().take(3).filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
    }
    Ok(fs::read_to_string(path)?.trim().parse()?)
}

/// Erases again who is in the journal and not erased in the database, which was restored from before.
pub(crate) async fn replay(db: &Db) -> anyhow::Result<()> {
    let journal = db.journal().clone();
    let erased: Vec<Uuid> = tokio::task::spawn_blocking(move || journal.read()).await??.into_iter().collect();
    let mut replayed = 0;
    for some in erased.chunks(AT_ONCE) {
        let query = sqlx::query_scalar!(
            r#"
            select id as "id!" from unnest($1::uuid[]) as journal (id)
            where not exists (select 1 from customers where customer_id = id and state = 'erased')
               or exists (select 1 from data_keys where owner_id = id and wrapped is not null)
            "#,
            some
        );
        for customer in query.fetch_all(db).await? {
            db.erase(&call(), customer).await.map_err(Fault::named)?;
            replayed += 1;
        }
    }
    if replayed > 0 {
        tracing::warn!(replayed, "customers of the erasure journal were erased again in a restored database");
    }
    Ok(())
}

/// The service's own call.
fn call() -> Call {
    let purpose = Purpose::parse("subject_request").expect("it is in the list");
    Call {
        caller: Caller { subject: "clientele".into(), purpose },
        deadline: (Instant::now() + Duration::from_secs(30)).into(),
        traceparent: "".into(),
    }
}
