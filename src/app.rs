//! A program of one's own: views in Rust, and the whole command line around them.

use std::process::ExitCode;
use std::sync::Arc;

use crate::cli;
use crate::views::{Definition, RustView, View};

/// A Segno with views that are declared in Rust. What the configuration declares is added to it.
///
/// ```no_run
/// # use segno::views::{Reject, View};
/// # use segno::event::EventMeta;
/// # use serde::{Deserialize, Serialize};
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Visits {
///     count: u64,
/// }
///
/// #[derive(Deserialize)]
/// #[serde(tag = "event_type", content = "payload")]
/// enum VisitEvent {
///     Visited {},
/// }
///
/// impl View for Visits {
///     const NAME: &'static str = "visits";
///     const VERSION: u32 = 1;
///     type Event = VisitEvent;
///
///     fn apply(&mut self, event: &VisitEvent, _: &EventMeta<'_>) -> Result<(), Reject> {
///         match event {
///             VisitEvent::Visited {} => self.count += 1,
///         }
///         Ok(())
///     }
/// }
///
/// fn main() -> std::process::ExitCode {
///     segno::App::new().topic("site.visits", |t| t.view::<Visits>()).run()
/// }
/// ```
#[derive(Default)]
pub struct App {
    declared: Vec<Declared>,
}

/// The views of one topic that a program declares.
pub struct Declared {
    pub(crate) topic: String,
    pub(crate) views: Vec<Arc<dyn Definition>>,
    /// Older versions of them.
    pub(crate) previous: Vec<Arc<dyn Definition>>,
}

/// A topic that is being declared.
pub struct Topic {
    views: Vec<Arc<dyn Definition>>,
    previous: Vec<Arc<dyn Definition>>,
}

impl Topic {
    /// Adds a view.
    pub fn view<V: View>(mut self) -> Self {
        self.views.push(Arc::new(RustView::<V>::new()));
        self
    }

    /// Registers an older version of a view: `NAME` as the view has it, and the `VERSION` that it had then. Where rows of
    /// that version are stored, they go on being folded by it until a replay into the newer version is done, and again
    /// when that is rolled back. Without it such rows can be read, but nothing is applied to them.
    ///
    /// The type may have moved since or have another name: that this is the code that made the rows is the program's
    /// word, and the version is all that can be checked.
    pub fn previous<V: View>(mut self) -> Self {
        self.previous.push(Arc::new(RustView::<V>::new()));
        self
    }
}

impl App {
    pub fn new() -> Self {
        App::default()
    }

    /// Adds views to a topic. How its records are decoded, and what happens to those that cannot be applied, is said
    /// under `[[topics]]` in the configuration; without it the defaults hold.
    pub fn topic(mut self, name: impl Into<String>, declare: impl FnOnce(Topic) -> Topic) -> Self {
        let topic = declare(Topic { views: Vec::new(), previous: Vec::new() });
        self.declared.push(Declared { topic: name.into(), views: topic.views, previous: topic.previous });
        self
    }

    #[cfg(test)]
    pub(crate) fn into_declared(self) -> Vec<Declared> {
        self.declared
    }

    /// Runs the command that the process's arguments name.
    pub fn run(self) -> ExitCode {
        cli::main(self.declared, std::env::args_os())
    }
}
