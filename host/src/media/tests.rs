//! Files come, count, and go; nothing that a crash leaves behind stays.

use super::*;
use crate::clock::ManualClock;
use crate::config::Retention;
use crate::store::tests::both::{Database, both};
use crate::store::{Time, bench_instance};
use futures_util::stream;
use std::path::Path;
use std::time::Duration;

const START: i64 = 1_767_225_600_000;

struct World {
    place: Database,
    store: Store,
    media: MediaStore,
    time: ManualClock,
    instance: Uuid,
}

impl World {
    async fn open(quota: u64) -> Self {
        let place = Database::new().await;
        let store = place.open().await;
        let (clock, time) = Clock::manual(Time::from_millis(START));
        let instance = bench_instance(&store, clock.now()).await.expect("an instance");
        let media = MediaStore::new(place.dir.path().join("media"), store.clone(), clock, quota).expect("a folder");
        media.take_stock().await.expect("counts");
        Self { place, store, media, time, instance }
    }

    async fn put(&self, size: usize) -> Result<Uuid, MediaError> {
        let pieces =
            (0..size.div_ceil(100)).map(|at| Ok::<_, std::io::Error>(Bytes::from(vec![7; (size - at * 100).min(100)])));
        let stored =
            self.media.put(self.instance, stream::iter(pieces.collect::<Vec<_>>()), None, None, 1 << 20).await?;
        Ok(stored.id)
    }

    /// A file that some message needs.
    async fn needed(&self, size: usize, status: &str) -> Uuid {
        let file = self.put(size).await.expect("stored");
        crate::store::tests::needs(&self.store, self.instance, file, status).await;
        file
    }

    fn on_disk(&self) -> Vec<String> {
        fn walk(folder: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
                match entry.path() {
                    path if path.is_dir() => walk(&path, found),
                    path => found.push(path.file_name().expect("a name").to_string_lossy().into_owned()),
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.place.dir.path().join("media"), &mut found);
        found.sort();
        found
    }

    async fn sweep(&self) -> u64 {
        sweep(&self.media, &Retention::default()).await.expect("sweeps")
    }
}

fn name(id: Uuid) -> String {
    id.simple().to_string()
}

async fn an_upload_that_nobody_sends_goes_and_one_that_a_message_needs_stays() {
    let world = World::open(0).await;
    let (unsent, sent) = (world.put(10).await.expect("stored"), world.needed(10, "sent").await);
    world.time.advance(Duration::from_secs(23 * 3_600));
    assert_eq!(world.sweep().await, 0);
    world.time.advance(Duration::from_secs(2 * 3_600));
    assert_eq!(world.sweep().await, 1);
    assert_eq!(world.on_disk(), [name(sent)]);
    assert!(matches!(world.media.get(unsent).await, Err(MediaError::NotFound(_))));
    assert_eq!(world.media.get(sent).await.expect("is there").size, 10);
    assert_eq!(world.media.bytes(), 10);
}

async fn what_a_crash_leaves_behind_is_swept_up_and_nothing_else() {
    let world = World::open(0).await;
    let known = world.put(10).await.expect("stored");
    let folder = world.place.dir.path().join("media/ab");
    std::fs::create_dir_all(&folder).expect("a folder");
    let orphan = Uuid::now_v7();
    // A crash between the file and its row; one in the middle of a file; and what is not ours.
    for file in [name(orphan), format!("{}.partial", name(Uuid::now_v7())), "notes.txt".to_owned(), "README".to_owned()]
    {
        std::fs::write(folder.join(file), "x").expect("writes");
    }
    // What hosts know by that they see the same folder, and the start of another one.
    let marks = ["omni.shared".to_owned(), format!("omni.shared.{}", name(Uuid::now_v7()))];
    for mark in &marks {
        std::fs::write(world.place.dir.path().join("media").join(mark), "x").expect("writes");
    }
    // One that is being written at this moment has no row either.
    let open = Open::new(&world.media.0, orphan);
    assert_eq!(world.sweep().await, 1);
    drop(open);
    assert_eq!(world.sweep().await, 1);
    let mut left = vec!["README".to_owned(), "notes.txt".to_owned(), name(known)];
    left.extend(marks);
    left.sort();
    assert_eq!(world.on_disk(), left);
}

async fn files_of_a_deleted_instance_go() {
    let world = World::open(0).await;
    world.needed(10, "sent").await;
    let mut tx = world.store.begin().await.expect("begins");
    crate::store::instances::delete(&mut tx, world.instance).await.expect("deletes");
    tx.commit().await.expect("commits");
    assert_eq!(world.sweep().await, 1);
    assert_eq!((world.on_disk().len(), world.media.bytes()), (0, 0));
}

async fn when_there_is_no_room_the_unneeded_go_first_and_then_the_oldest() {
    let world = World::open(1_000).await;
    let oldest = world.needed(300, "sent").await;
    let waiting = world.needed(300, "pending").await;
    let unneeded = world.put(300).await.expect("stored");
    // All of them are young: none may go, and what does not fit is refused and leaves nothing behind.
    assert!(matches!(world.put(300).await, Err(MediaError::Full(1_000))));
    assert_eq!((world.on_disk().len(), world.media.bytes()), (3, 900));
    world.time.advance(Duration::from_secs(3_600));
    let first = world.needed(300, "sent").await;
    assert!(matches!(world.media.get(unneeded).await, Err(MediaError::NotFound(_))));
    let second = world.put(300).await.expect("the oldest makes room");
    assert!(matches!(world.media.get(oldest).await, Err(MediaError::Gone(_))), "its row says what became of it");
    for kept in [waiting, first, second] {
        world.media.get(kept).await.expect("is there");
    }
    assert_eq!((world.on_disk().len(), world.media.bytes()), (3, 900));
    assert!(matches!(world.put(2_000).await, Err(MediaError::Full(1_000))), "larger than the whole quota");
}

async fn a_count_is_right_after_a_start_and_a_smaller_quota_is_obeyed() {
    let world = World::open(0).await;
    for _ in 0..5 {
        world.needed(100, "sent").await;
    }
    world.time.advance(Duration::from_secs(3_600));
    let (clock, _) = Clock::manual(Time::from_millis(START + 7_200_000));
    let again =
        MediaStore::new(world.place.dir.path().join("media"), world.store.clone(), clock, 250).expect("a folder");
    again.take_stock().await.expect("counts");
    assert_eq!(again.bytes(), 500);
    sweep(&again, &Retention::default()).await.expect("sweeps");
    assert_eq!((again.bytes(), world.on_disk().len()), (200, 2));
}

async fn old_files_go_when_the_configuration_says_so() {
    let world = World::open(0).await;
    let old = world.needed(100, "sent").await;
    world.time.advance(Duration::from_secs(8 * 86_400));
    let retention = Retention { media_days: 7, ..Retention::default() };
    assert_eq!(sweep(&world.media, &retention).await.expect("sweeps"), 1);
    assert!(matches!(world.media.get(old).await, Err(MediaError::Gone(_))));
}

both!(
    an_upload_that_nobody_sends_goes_and_one_that_a_message_needs_stays,
    what_a_crash_leaves_behind_is_swept_up_and_nothing_else,
    files_of_a_deleted_instance_go,
    when_there_is_no_room_the_unneeded_go_first_and_then_the_oldest,
    a_count_is_right_after_a_start_and_a_smaller_quota_is_obeyed,
    old_files_go_when_the_configuration_says_so,
);
