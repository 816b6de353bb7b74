//! What a replay would do, and law *Refuse*: each way in which a correct one cannot be had, with its words.

mod cuts;
mod random;
mod rules;
mod stage;
