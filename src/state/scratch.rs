//! A generation for a question, in memory: it commits and reads like any other, and nothing of it is ever on disk.

use std::sync::Arc;

use rocksdb::Env;

use crate::position::Position;
use crate::state::definitions::ViewIdent;
use crate::state::error::Error;
use crate::state::generation::{Generation, Opened};
use crate::state::meta::Identity;
use crate::state::store::Store;

impl Store {
    /// Makes an empty generation in memory that begins at `position`, for these views. It shares the store's bounds for
    /// memtables and blocks; what it has flushed lies in memory too, beyond them, so it is meant for some rows and not
    /// for all. Its number is `u64::MAX`, and its end is that of the last owner.
    pub fn scratch(
        &self,
        identity: &Identity,
        views: &[ViewIdent],
        position: Position,
    ) -> Result<Arc<Generation>, Error> {
        // The name means another place in memory, where there is nothing else. The binding creates the directory on disk
        // too when it is not there; this one is.
        // Absolute, for an environment in memory has no working directory.
        let path = std::path::absolute(self.path()).map_err(|error| Error::io(self.path(), error))?;
        let env = Env::mem_env().map_err(|error| Error::rocks(&path, error))?;
        let mut database = self.root.shared.database();
        // The database keeps the environment alive until it is closed.
        database.set_env(&env);
        let opened = Opened::open_with(&self.root, database, &path, true)?;
        opened.for_writing(&self.root, u64::MAX, identity, views, position).map(Arc::new)
    }
}
