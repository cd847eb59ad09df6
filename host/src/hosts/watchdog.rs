//! Ends the process when its lease is over and it has instances still: a thread of its own, so that nothing that hangs, and
//! no pause of the whole process, keeps it from that.

use super::FORCED;
use crate::instances::Instances;
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(100);
/// The exit code: not now, start me again (`EX_TEMPFAIL` of sysexits).
const AGAIN: i32 = 75;

/// A thread that watches, until this is dropped.
#[derive(Debug)]
pub struct Watchdog {
    _watched: Arc<()>,
}

/// Begins to watch. A host that has its database alone has nothing to be watched for.
pub fn watch(store: Store, instances: Instances) -> std::io::Result<Watchdog> {
    let watched = Arc::new(());
    let here = Arc::downgrade(&watched);
    let watch = move || {
        while here.strong_count() > 0 && store.lease_left().is_some() {
            pause();
            // A process that was paused finds that it has been over for long.
            let over = store.lease_over_for().unwrap_or_default();
            if over >= FORCED && instances.running() > 0 {
                tracing::error!(
                    "this host could not say in time that it lives, and its instances did not end: it ends now, so that \
                     another one can have them. Start it again"
                );
                std::process::exit(AGAIN);
            }
        }
    };
    std::thread::Builder::new().name("omni-watchdog".into()).spawn(watch)?;
    Ok(Watchdog { _watched: watched })
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, and the machine's time")]
fn pause() {
    std::thread::sleep(EVERY);
}
