//! Each test names one documented behaviour; the table is in `kubesim/README.md`.

use std::net::Ipv4Addr;

use super::*;
use crate::kubesim::manifest::Manifests;

const TEMPLATE: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web, namespace: fleet}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 600
      securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65533, fsGroup: 65534}
      containers:
        - name: web
          image: web:1
          command: [/bin/web]
          args: [serve, --name=$(POD_NAME), $(NOBODY)]
          env:
            - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: ZONE, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['zone']\"}}}
            - {name: ADVERTISE, value: $(POD_NAME).web.fleet.svc}
          lifecycle: {preStop: {exec: {command: [/bin/web, prestop]}}}
          securityContext: {readOnlyRootFilesystem: true}
          volumeMounts:
            - {name: data, mountPath: /var/lib/web}
            - {name: config, mountPath: /etc/web, readOnly: true}
            - {name: keys, mountPath: /etc/keys, readOnly: true}
            - {name: scratch, mountPath: /tmp}
      volumes:
        - {name: config, configMap: {name: web}}
        - {name: keys, secret: {secretName: keys, defaultMode: 0440}}
        - {name: scratch, emptyDir: {}}
  volumeClaimTemplates:
    - {metadata: {name: data}, spec: {accessModes: [ReadWriteOnce]}}
";

fn identity() -> Identity {
    Identity {
        name: "web-1".into(),
        namespace: "fleet".into(),
        uid: "u-7".into(),
        address: Ipv4Addr::new(10, 0, 0, 3),
        host: "host-2".into(),
        account: "web".into(),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        annotations: [].into(),
    }
}

fn read(text: &str) -> Result<Launch> {
    let mut all = read_all(text)?;
    Ok(all.pop().unwrap())
}

fn read_all(text: &str) -> Result<Vec<Launch>> {
    let objects = Manifests::parse(text)?;
    let template = &objects.stateful_sets[0].spec.as_ref().unwrap().template;
    let spec = template.spec.as_ref().unwrap();
    let services = [("API".to_owned(), "10.0.0.254".to_owned())];
    Launch::read(spec, &identity(), &["data".to_owned()], &services, 10.0)
}

#[test]
fn launch_is_what_the_template_says() {
    let launch = read(TEMPLATE).unwrap();
    assert_eq!(launch.image, "web:1");
    assert_eq!(
        (launch.user, launch.group, launch.volume_group),
        (65532, 65533, 65534)
    );
    assert_eq!(launch.grace, Duration::from_secs(60), "ten times as fast");
    assert!(launch.has_read_only_root);
    let hook = vec!["/bin/web".to_owned(), "prestop".to_owned()];
    assert_eq!(launch.pre_stop, Some(hook));
    let files = |object: &str, mode| Files {
        object: object.into(),
        mode,
        items: None,
    };
    let expected = [
        (Source::Claim("data".into()), "/var/lib/web", false),
        (Source::ConfigMap(files("web", 0o644)), "/etc/web", true),
        (Source::Secret(files("keys", 0o440)), "/etc/keys", true),
        (Source::Empty("scratch".into()), "/tmp", false),
    ];
    let expected = expected.map(|(source, target, is_read_only)| Mount {
        source,
        target: target.into(),
        is_read_only,
    });
    assert_eq!(launch.mounts, expected);
}

#[test]
fn variables_refer_to_earlier_ones_and_to_the_pod() {
    let launch = read(TEMPLATE).unwrap();
    let expected = [
        ("API", "10.0.0.254"),
        ("POD_NAME", "web-1"),
        ("ZONE", ""),
        ("ADVERTISE", "web-1.web.fleet.svc"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(launch.environment, expected);
    let command = ["/bin/web", "serve", "--name=web-1", "$(NOBODY)"];
    assert_eq!(launch.command, command, "what nobody knows stays as it is");
}

#[test]
fn init_containers_come_before_the_others() {
    let before = "initContainers:
        - name: keys
          image: keys:1
          command: [/bin/keys]
          args: [--out=/keys]
          volumeMounts: [{name: scratch, mountPath: /keys}]
      containers:";
    let all = read_all(&TEMPLATE.replace("containers:", before)).unwrap();
    let images: Vec<&str> = all.iter().map(|launch| launch.image.as_str()).collect();
    assert_eq!(images, ["keys:1", "web:1"]);
    assert_eq!(all[0].command, ["/bin/keys", "--out=/keys"]);
    assert_eq!(all[0].mounts[0].source, Source::Empty("scratch".into()));
    assert_eq!(all[0].user, 65532);
}

#[test]
fn dollars_are_escaped_by_dollars() {
    let variables = [("A".to_owned(), "1".to_owned())];
    let expand = |text| environment::expand(text, &variables);
    assert_eq!(expand("$(A)$(A)x"), "11x");
    assert_eq!(expand("$$(A)"), "$(A)");
    assert_eq!(expand("$$$(A)"), "$1");
    assert_eq!(expand("$A $(A $"), "$A $(A $");
}

#[test]
fn pods_that_are_not_modelled_are_refused() {
    let refused = |from, to| format!("{:#}", read(&TEMPLATE.replace(from, to)).unwrap_err());
    let grace = "terminationGracePeriodSeconds: 600";
    assert!(refused(grace, "hostNetwork: true").contains("hostNetwork"));
    let stays = "initContainers: [{name: a, restartPolicy: Always}]";
    assert!(refused(grace, stays).contains("init container"));
    assert!(refused("fieldPath: metadata.name}", "fieldPath: status.hostIP}").contains("hostIP"));
    assert!(refused("runAsUser: 65532", "runAsUser: 0").contains("runAsNonRoot"));
    assert!(refused("emptyDir: {}", "hostPath: {path: /}").contains("volume scratch"));
    assert!(refused("name: scratch, mount", "name: other, mount").contains("no volume other"));
    assert!(refused("mountPath: /tmp", "mountPath: /tmp, subPath: a").contains("/tmp"));
    assert!(
        refused(
            "exec: {command: [/bin/web, prestop]}",
            "sleep: {seconds: 5}"
        )
        .contains("preStop")
    );
    assert!(refused("command: [/bin/web]\n", "tty: false\n").contains("without a command"));
}
