//! What the partition does about what is on its board. Whoever was given up since is not heard.

use ractor::ActorProcessingErr;

use super::apart::Parked;
use super::flow::{Flow, actors_failed};
use crate::actors::board::{Cell, Notice, OwnShard, Speaker};
use crate::actors::plan::Fatal;
use crate::actors::shard::Suspect;
use crate::actors::shard::activate::store_failed;
use crate::actors::shard::actor::ShardMessage;
use crate::position::Offset;

impl Flow {
    pub(super) async fn read_board(&mut self) -> Result<(), Fatal> {
        for notice in self.nursery.setting.board.take() {
            let heard = self.hear(notice).await?;
            heard.map_err(|error| actors_failed(self.at(), &error.to_string()))?;
        }
        Ok(())
    }

    /// Acts on a notice, if whoever posted it still speaks for the partition. The inner error: a shard could not be
    /// started.
    async fn hear(&mut self, notice: Notice) -> Result<Result<(), ActorProcessingErr>, Fatal> {
        tracing::trace!(at = %self.at(), ?notice, "on the board");
        let current = |incarnation| incarnation == self.nursery.incarnation;
        match notice {
            Notice::Fatal { by, fatal } => {
                let speaks = match &by {
                    Speaker::Home { incarnation } => current(*incarnation),
                    Speaker::Own(own) => self.apart.speaks(own),
                    Speaker::Other => true,
                };
                if speaks {
                    return Err(fatal);
                }
            }
            Notice::Unwritable { incarnation, row } if current(incarnation) => {
                tracing::error!(
                    at = %self.at(), view = row.cell.view, key = %row.cell.key.escape_ascii(), row.why,
                    "a row cannot be handed over; the shards start anew without its events"
                );
                self.recovery.suspect(Suspect::Row { cell: row.cell, below: self.dealt_to, why: row.why });
                self.begin_recovery();
            }
            Notice::Waiting(cell) => return Ok(self.apart.admit(&self.nursery, cell).await),
            // While the shards start anew there is no home to be asked; afterwards the own shard looks once more.
            Notice::Drained { own, turn, through } if self.apart.drained(&own, turn) && !self.recovery.pending() => {
                let release = ShardMessage::Release { own: own.clone(), through };
                if !self.homes.tell(&own.cell, release) {
                    return self.released_by_nobody(&own, through).await;
                }
            }
            Notice::Released { own, incarnation, back: true } if current(incarnation) => {
                return Ok(self.apart.let_go(&self.nursery, &own).await);
            }
            Notice::Released { own, incarnation, back: false } if current(incarnation) => self.apart.again(&own),
            Notice::Parked { own, turn } => {
                // What the home has queued as waiting until it hears of this was dealt before now.
                let uncollected = u64::from(self.dealt_to != self.collected_to);
                match self.apart.parked(&own, turn, self.epoch + uncollected) {
                    Parked::TellHome => {
                        // A home that starts later reads the standing from the store.
                        self.homes.tell(&own.cell, ShardMessage::Park(own.cell.clone()));
                    }
                    Parked::Over => return Ok(self.apart.let_go(&self.nursery, &own).await),
                    Parked::Stale => {}
                }
            }
            Notice::Fenced(own) => return Ok(self.apart.fenced(&self.nursery, &own).await),
            Notice::Drained { .. } | Notice::Released { .. } | Notice::Unwritable { .. } => {}
        }
        Ok(Ok(()))
    }

    /// Nobody has the cell in memory, so that all that it holds back is in the store, and its home will look there when it
    /// is needed again. A home that went since may have queued more there than the own shard has seen.
    async fn released_by_nobody(
        &mut self,
        own: &OwnShard,
        through: Option<Offset>,
    ) -> Result<Result<(), ActorProcessingErr>, Fatal> {
        let (setting, Cell { view, key }) = (&self.nursery.setting, &own.cell);
        let tail = tokio::task::block_in_place(|| setting.generation.held_tail(setting.tags[*view], key));
        let tail = tail.map_err(|error| store_failed(&setting.at, &error))?;
        if tail.is_some_and(|(last, _)| through.is_none_or(|through| last > through)) {
            self.apart.again(own);
            return Ok(Ok(()));
        }
        Ok(self.apart.let_go(&self.nursery, own).await)
    }
}
