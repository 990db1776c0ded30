//! Tests the pace against model servers of three kinds, on a clock that moves only when all tasks wait.
//!
//! `model` is the server and its clients; the expectations are here.

mod kept;
mod model;
mod shared;
mod slow;

use std::sync::Arc;

use model::{Case, Count, KINDS, Kind, World};

use super::*;

/// Keeping to a limit means using this share of it, with at most this share of requests refused.
const USED: f64 = 0.95;
const REFUSED: f64 = 0.01;

/// Latencies from quick to slow, with enough requests in flight for 400 requests per second or more.
const LATENCIES: [(u64, usize); 4] = [(5, 32), (50, 32), (50, 200), (200, 200)];

fn cases() -> impl Iterator<Item = Case> {
    let seeds = [(1, true), (2, false), (3, true)];
    KINDS.into_iter().flat_map(move |kind| {
        [40.0, 400.0].into_iter().flat_map(move |limit| {
            LATENCIES.into_iter().zip(seeds.into_iter().cycle()).map(
                move |((latency, in_flight), (seed, refuses_late))| Case {
                    kind,
                    limit,
                    latency,
                    in_flight,
                    refuses_late,
                    seed,
                },
            )
        })
    })
}

/// Starts one worker without a known limit.
fn asked_by_one(case: Case) -> (World, Arc<Pace>) {
    let mut world = World::new(case);
    let pace = Arc::new(Pace::new(20.0, None));
    world.ask(&pace);
    (world, pace)
}

#[tokio::test(start_paused = true)]
async fn a_hidden_limit_is_found_and_used_almost_fully_with_few_refusals() {
    for case in cases() {
        let (world, _pace) = asked_by_one(case);
        world.pass(15).await;
        let count = world.pass(40).await;
        assert!(count.served_of(case.limit) >= USED && count.refused_share() <= REFUSED, "{case:?}: {count:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_halves_or_doubles_is_found_again_within_15_seconds() {
    for case in cases().filter(|case| case.latency != 50 || case.in_flight == 200) {
        let (world, _pace) = asked_by_one(case);
        // At different moments of the search for more.
        world.pass(13 + u32::try_from(case.seed).unwrap() * 3).await;
        for limit in [case.limit / 2.0, case.limit] {
            world.set_limit(limit);
            world.pass(15).await;
            let count = world.pass(10).await;
            assert!(count.served_of(limit) >= USED, "{case:?}, to {limit}: {count:?}");
            // A bucket gives a second's worth extra before its first refusal, which may happen only now. Otherwise
            // these seconds may contain one search more than they have time for.
            let refused = if case.kind == Kind::Bucket { 0.05 } else { REFUSED + 1.0 / (limit * 10.0) };
            assert!(count.refused_share() <= refused, "{case:?}, to {limit}: {count:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_far_above_the_limit_causes_one_second_of_refusals() {
    for kind in KINDS {
        let case = Case { kind, limit: 40.0, latency: 50, in_flight: 32, refuses_late: true, seed: 1 };
        let mut world = World::new(case);
        world.ask(&Arc::new(Pace::new(5000.0, None)));
        let first = world.pass(3).await;
        assert!(first.refused <= 40, "{kind:?}: {first:?}");
        let count = world.pass(5).await;
        assert!(count.served_of(40.0) >= 0.9 && count.refused_share() <= 0.02, "{kind:?}: {count:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stored_rate_that_has_become_wrong_is_corrected() {
    for kind in KINDS {
        for (kept, seconds) in [(100.0, 25), (2000.0, 5)] {
            let case = Case { kind, limit: 400.0, latency: 50, in_flight: 200, refuses_late: true, seed: 1 };
            let mut world = World::new(case);
            let pace = Arc::new(Pace::new(20.0, None));
            pace.share(1, Some(kept));
            world.ask(&pace);
            world.pass(seconds).await;
            let count = world.pass(20).await;
            assert!(count.served_of(400.0) >= USED && count.refused_share() <= 0.02, "{kind:?} {kept}: {count:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_pace_recovers_soon_after_an_api_refused_everything() {
    for case in cases().filter(|case| case.latency == 50) {
        let (world, pace) = asked_by_one(case);
        world.pass(20).await;
        world.set_limit(0.0);
        world.pass(20).await;
        assert!(pace.rate() <= 1.0, "{case:?}: {}", pace.rate());
        world.set_limit(case.limit);
        world.pass(20).await;
        let count = world.pass(10).await;
        assert!(count.served_of(case.limit) >= 0.9, "{case:?}: {count:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_pace_recovers_within_seconds_after_other_clients_used_the_limit_up() {
    let case = Case { kind: Kind::SlidingWindow, limit: 0.0, latency: 50, in_flight: 32, refuses_late: false, seed: 1 };
    let mut world = World::new(case);
    let pace = Arc::new(Pace::new(20.0, None));
    pace.share(1, Some(130.0));
    world.ask(&pace);
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.set_limit(135.0);
    world.pass(6).await;
    let count = world.pass(3).await;
    assert!(count.served_of(135.0) >= 0.9, "{count:?}");
}

#[tokio::test(start_paused = true)]
async fn a_limit_below_the_ceiling_is_found_from_an_estimate_far_above_it() {
    let mut world = World::new(Case {
        kind: Kind::FixedWindow,
        limit: 40.0,
        latency: 50,
        in_flight: 32,
        refuses_late: true,
        seed: 1,
    });
    let pace = Arc::new(Pace::new(20.0, Some(60.0)));
    pace.share(1, Some(5000.0));
    world.ask(&pace);
    world.pass(3).await;
    let count = world.pass(20).await;
    assert!(count.served_of(40.0) >= USED && count.refused_share() <= REFUSED, "{count:?}");
}

#[tokio::test(start_paused = true)]
async fn requests_go_evenly_and_no_faster_than_the_ceiling() {
    let pace = Pace::new(1000.0, Some(10.0));
    let start = Instant::now();
    for _ in 0..21 {
        let turn = pace.turn().await;
        pace.went_well(&turn);
    }
    let elapsed = start.elapsed().as_secs_f64();
    assert!((1.99..2.1).contains(&elapsed), "{elapsed}");
}

#[tokio::test(start_paused = true)]
async fn missed_turns_are_caught_up_without_exceeding_the_ceiling_in_any_second() {
    let pace = Pace::new(100.0, Some(100.0));
    let mut sent = Vec::new();
    for turn in 0..500 {
        let turn_at = pace.turn().await.sent_at;
        sent.push(turn_at);
        if turn % 70 == 0 {
            tokio::time::advance(Duration::from_millis(60)).await;
        }
    }
    let most =
        sent.iter().map(|at| sent.iter().filter(|sent| *at <= **sent && **sent < *at + Duration::from_secs(1)).count());
    assert_eq!(most.max(), Some(100));
    let seconds = (sent[499] - sent[0]).as_secs_f64();
    assert!(seconds < 5.3, "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn slow_requests_do_not_raise_the_pace() {
    let pace = Pace::new(100.0, None);
    for _ in 0..500 {
        let turn = pace.turn().await;
        pace.went_well(&turn);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(pace.rate() < 101.0, "{}", pace.rate());
    assert_eq!(pace.found(), None);
}

#[tokio::test(start_paused = true)]
async fn no_request_is_sent_during_a_pause_that_the_api_asked_for() {
    for (asked_for, kept) in [(0, 1), (7, 7), (1_000_000_000, 60)] {
        let pace = Arc::new(Pace::new(100.0, None));
        pace.turn().await;
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let pace = Arc::clone(&pace);
                tokio::spawn(async move { pace.turn().await.sent_at })
            })
            .collect();
        let held_at = Instant::now();
        pace.hold_for(Duration::from_secs(asked_for));
        for turn in waiting {
            let waited = turn.await.unwrap().duration_since(held_at).as_secs_f64();
            assert!((f64::from(kept)..f64::from(kept) + 0.1).contains(&waited), "{asked_for} s: {waited}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_refusals_of_one_moment_count_once() {
    let pace = Pace::new(100.0, None);
    pace.share(1, Some(98.0));
    let mut turns = Vec::new();
    for _ in 0..200 {
        turns.push(pace.turn().await);
    }
    for turn in turns.iter().rev().take(10) {
        pace.was_throttled(turn);
    }
    assert!((85.0..97.0).contains(&pace.rate()), "{}", pace.rate());
}

#[tokio::test(start_paused = true)]
async fn a_late_429_counts_the_second_before_its_request() {
    let pace = Pace::new(20.0, None);
    pace.share(1, Some(98.0));
    let mut turns = Vec::new();
    for _ in 0..110 {
        turns.push(pace.turn().await);
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    pace.turn().await;
    pace.was_throttled(&turns[109]);
    assert!((90.0..97.0).contains(&pace.rate()), "{}", pace.rate());
}
