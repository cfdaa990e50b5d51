//! The recorder's counts, in every order there is.

use super::Recorder;
use crate::env::Timestamp;

#[test]
fn loom_nothing_that_is_counted_is_lost_and_what_was_heard_never_goes_back() {
    loom::model(|| {
        let recorder = Recorder::new();
        let readers: Vec<_> = [10_usize, 7]
            .into_iter()
            .map(|bytes| {
                let recorder = recorder.clone();
                loom::thread::spawn(move || {
                    recorder.record_data(bytes);
                    recorder.stamp(Timestamp::from_nanos(bytes as u64));
                })
            })
            .collect();
        let (first, second) = (recorder.last_heard(), recorder.last_heard());
        assert!(first <= second, "{first:?} then {second:?}");
        readers.into_iter().for_each(|reader| reader.join().expect("no panic"));
        assert_eq!(recorder.received(), 17);
        assert_eq!(recorder.last_heard(), Timestamp::from_nanos(10));
    });
}

#[test]
fn loom_a_count_goes_on_while_the_cold_lock_is_held() {
    loom::model(|| {
        let recorder = Recorder::new();
        let held = recorder.hold_cold_lock();
        let other = recorder.clone();
        loom::thread::spawn(move || other.record_data(5)).join().expect("no panic");
        drop(held);
        assert_eq!(recorder.received(), 5);
    });
}
