//! Each test names one documented behaviour; the table is in `kubesim/README.md`.

use super::*;
use crate::kubesim::manifest::Manifests;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn plan(initial_delay: u64, success_threshold: u32, failure_threshold: u32) -> Option<Plan> {
    Some(Plan {
        check: Check::Tcp { port: 80 },
        timing: Timing {
            initial_delay: at(initial_delay),
            period: at(10),
            timeout: at(1),
            success_threshold,
            failure_threshold,
        },
    })
}

/// Runs all probes that are due at a time with one outcome, and tells which ones.
fn run(health: &mut Health, seconds: u64, success: bool) -> Vec<Kind> {
    let due = health.due(at(seconds));
    for kind in &due {
        health.note(*kind, success);
    }
    due
}

#[test]
fn container_without_probes_is_ready_at_once() {
    let mut health = Health::new(&Plans::default(), at(5));
    assert!(health.has_started() && health.is_ready());
    assert_eq!(run(&mut health, 100, false), []);
    assert_eq!(health.wants_restart(), None);
}

#[test]
fn first_probe_comes_after_the_initial_delay_and_then_every_period() {
    let plans = Plans {
        readiness: plan(5, 1, 3),
        ..Plans::default()
    };
    let mut health = Health::new(&plans, at(100));
    assert!(!health.is_ready(), "it is not ready before the first probe");
    assert_eq!(run(&mut health, 104, true), []);
    assert_eq!(run(&mut health, 105, true), [Kind::Readiness]);
    assert!(health.is_ready());
    assert_eq!(run(&mut health, 114, true), []);
    assert_eq!(run(&mut health, 115, true), [Kind::Readiness]);
}

#[test]
fn probe_is_not_run_twice_at_a_time() {
    let plans = Plans {
        liveness: plan(0, 1, 1),
        ..Plans::default()
    };
    let mut health = Health::new(&plans, at(0));
    assert_eq!(health.due(at(0)), [Kind::Liveness]);
    assert_eq!(health.due(at(30)), []);
    health.note(Kind::Liveness, true);
    assert_eq!(health.due(at(31)), [Kind::Liveness]);
}

#[test]
fn other_probes_wait_for_the_startup_probe_which_ends_with_its_success() {
    let plans = Plans {
        startup: plan(0, 1, 30),
        liveness: plan(0, 1, 1),
        readiness: plan(0, 1, 1),
    };
    let mut health = Health::new(&plans, at(0));
    assert_eq!(run(&mut health, 0, false), [Kind::Startup]);
    assert_eq!(run(&mut health, 10, false), [Kind::Startup]);
    assert!(!health.is_ready());
    assert_eq!(run(&mut health, 20, true), [Kind::Startup]);
    assert!(
        !health.is_ready(),
        "it has started and has not shown that it is ready"
    );
    assert_eq!(
        run(&mut health, 21, true),
        [Kind::Liveness, Kind::Readiness]
    );
    assert!(health.is_ready());
    assert_eq!(
        run(&mut health, 31, true),
        [Kind::Liveness, Kind::Readiness]
    );
}

#[test]
fn startup_probe_restarts_the_container_after_its_failure_threshold() {
    let plans = Plans {
        startup: plan(0, 1, 3),
        ..Plans::default()
    };
    let mut health = Health::new(&plans, at(0));
    run(&mut health, 0, false);
    run(&mut health, 10, false);
    assert_eq!(health.wants_restart(), None);
    run(&mut health, 20, false);
    assert_eq!(health.wants_restart(), Some(Kind::Startup));
    assert_eq!(
        run(&mut health, 30, true),
        [],
        "it is over with this container"
    );
}

#[test]
fn liveness_probe_restarts_the_container_after_failures_in_a_row() {
    let plans = Plans {
        liveness: plan(0, 1, 3),
        ..Plans::default()
    };
    let mut health = Health::new(&plans, at(0));
    for (nth, success) in [false, false, true, false, false].into_iter().enumerate() {
        run(&mut health, nth as u64 * 10, success);
        assert_eq!(health.wants_restart(), None, "{nth}");
    }
    run(&mut health, 50, false);
    assert_eq!(health.wants_restart(), Some(Kind::Liveness));
    assert!(!health.is_ready());
}

#[test]
fn readiness_probe_changes_with_its_thresholds_and_never_restarts() {
    let plans = Plans {
        readiness: plan(0, 2, 2),
        ..Plans::default()
    };
    let mut health = Health::new(&plans, at(0));
    let outcomes = [true, true, false, true, false, false, true, true];
    let ready = [false, true, true, true, true, false, false, true];
    for (nth, (success, expected)) in outcomes.into_iter().zip(ready).enumerate() {
        run(&mut health, nth as u64 * 10, success);
        assert_eq!(health.is_ready(), expected, "{nth}");
    }
    assert_eq!(health.wants_restart(), None);
}

#[test]
fn only_readiness_is_probed_while_the_pod_ends() {
    let plans = Plans {
        liveness: plan(0, 1, 1),
        readiness: plan(0, 1, 1),
        ..Plans::default()
    };
    let mut health = Health::new(&plans, at(0));
    run(&mut health, 0, true);
    assert_eq!(health.due(at(10)), [Kind::Liveness, Kind::Readiness]);
    health.stop();
    health.note(Kind::Liveness, false);
    health.note(Kind::Readiness, false);
    assert_eq!(health.wants_restart(), None, "it ends anyway");
    assert!(!health.is_ready());
    assert_eq!(run(&mut health, 20, true), [Kind::Readiness]);
    assert!(health.is_ready());
}

fn read(probe: &str) -> Result<Plans> {
    let text = format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: fleet}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
        - name: web
          ports: [{{name: http, containerPort: 7480}}]
          livenessProbe: {probe}
"
    );
    let objects = Manifests::parse(&text)?;
    let template = &objects.deployments[0].spec.as_ref().unwrap().template;
    Plans::read(&template.spec.as_ref().unwrap().containers[0], 2.0)
}

#[test]
fn probes_are_read_with_their_defaults() {
    let found = read("{httpGet: {path: /livez, port: http, scheme: HTTPS}}").unwrap();
    let expected = Plan {
        check: Check::Http {
            port: 7480,
            path: "/livez".into(),
            is_https: true,
        },
        timing: Timing {
            initial_delay: at(0),
            period: at(5),
            timeout: at(1),
            success_threshold: 1,
            failure_threshold: 3,
        },
    };
    assert_eq!(
        found.liveness,
        Some(expected),
        "at twice the speed, but for the timeout"
    );
    let found = read("{exec: {command: [ls, /]}, failureThreshold: 7}").unwrap();
    let plan = found.liveness.unwrap();
    let command = vec!["ls".to_owned(), "/".to_owned()];
    assert_eq!(
        (plan.check, plan.timing.failure_threshold),
        (Check::Exec { command }, 7)
    );
}

#[test]
fn probes_that_are_not_modelled_are_refused() {
    for probe in [
        "{}",
        "{grpc: {port: 1}}",
        "{tcpSocket: {port: other}}",
        "{httpGet: {port: 1, httpHeaders: [{name: a, value: b}]}}",
        "{tcpSocket: {port: 1}, terminationGracePeriodSeconds: 5}",
    ] {
        assert!(read(probe).is_err(), "{probe}");
    }
}
