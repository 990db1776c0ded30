//! Tests several workers that share one API.

use super::*;

/// Workers that exchange what they found every five seconds, as they do through the database.
struct Workers {
    paces: Vec<Arc<Pace>>,
    total: Option<f64>,
}

impl Workers {
    fn turn(&mut self) {
        let workers = f64::from(u32::try_from(self.paces.len()).unwrap());
        for pace in &self.paces {
            if let Some(found) = pace.found() {
                let total = self.total.get_or_insert(found);
                *total += (found - *total) / workers;
            }
            if let Some(total) = self.total {
                pace.approach(total);
            }
        }
    }

    async fn pass(&mut self, world: &World, seconds: u32) -> Count {
        let mut sum = Count::default();
        for _ in 0..seconds / 5 {
            let count = world.pass(5).await;
            self.turn();
            sum.seconds += count.seconds;
            sum.served += count.served;
            sum.refused += count.refused;
        }
        sum
    }
}

#[tokio::test(start_paused = true)]
async fn three_workers_keep_to_a_limit_together_and_share_it_fairly() {
    for kind in KINDS {
        for (limit, refused) in [(40.0, 0.02), (400.0, REFUSED)] {
            let case = Case { kind, limit, latency: 50, in_flight: 32, refuses_late: true, seed: 1 };
            let mut world = World::new(case);
            let paces = (0..3).map(|_| Arc::new(Pace::new(20.0, None))).collect();
            let mut workers = Workers { paces, total: None };
            for pace in &workers.paces {
                pace.share(3, None);
                world.ask(pace);
            }
            workers.pass(&world, 30).await;
            let count = workers.pass(&world, 60).await;
            assert!(count.served_of(limit) >= USED && count.refused_share() <= refused, "{case:?}: {count:?}");
            let rates: Vec<_> = workers.paces.iter().map(|pace| pace.rate() / limit).collect();
            assert!(rates.iter().all(|share| (0.2..0.5).contains(share)), "{case:?}: {rates:?}");
        }
    }
}

#[test]
fn a_new_worker_does_not_change_the_total() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _guard = runtime.enter();
    let paces = [100.0, 20.0, 20.0].map(|initial| Pace::new(initial, None));
    for pace in &paces {
        pace.share(3, Some(300.0));
    }
    let total: f64 = paces.iter().map(Pace::rate).sum();
    assert!((total - 300.0).abs() < 0.001, "{total}");
    // One ends.
    for pace in &paces[..2] {
        pace.share(2, Some(300.0));
    }
    let total: f64 = paces[..2].iter().map(Pace::rate).sum();
    assert!((total - 300.0).abs() < 0.001, "{total}");
    // Without a known total each worker keeps its own estimate.
    paces[0].share(3, None);
    assert!((paces[0].rate() - 100.0).abs() < 0.001, "{}", paces[0].rate());
}

#[tokio::test(start_paused = true)]
async fn workers_share_a_ceiling_as_well() {
    let pace = Pace::new(1000.0, Some(30.0));
    pace.share(3, Some(3000.0));
    assert!((pace.rate() - 10.0).abs() < 0.001, "{}", pace.rate());
    pace.share(1, None);
    assert!((pace.rate() - 30.0).abs() < 0.001, "{}", pace.rate());
}
