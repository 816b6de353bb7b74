//! Which cells hold events, by the store: what a shard that starts anew has to know.

use std::collections::HashMap;

use super::Setting;
use super::core::Tail;
use crate::actors::board::Cell;
use crate::state;

/// The cells that hold events, by the store: all of them with their tails, and those of which an event waits.
pub fn held_cells(setting: &Setting) -> Result<(HashMap<Cell, Tail>, Vec<Cell>), state::Error> {
    let (mut held, mut waiting) = (HashMap::new(), Vec::new());
    for queue in setting.generation.held_keys()? {
        let Some(view) = setting.tags.iter().position(|tag| *tag == queue.view) else { continue };
        let cell = Cell { view, key: queue.key.into() };
        if queue.waits {
            waiting.push(cell.clone());
        }
        held.insert(cell, Tail { last: queue.last, standing: queue.standing });
    }
    Ok((held, waiting))
}
