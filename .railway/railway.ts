// Stenobox on Railway: docs/deploy-railway.md goes from nothing to the first transcript. `railway config plan` shows
// what would change, `railway config apply` does it.
import { defineRailway, preserve, project, service, volume } from "railway/iac";

export default defineRailway(() => {
  const data = volume("data", { sizeMB: 10_240 });

  const box = service("stenobox", {
    build: { builder: "DOCKERFILE", dockerfilePath: "Dockerfile" },
    healthcheckPath: "/healthz",
    healthcheckTimeout: 300, // the first start creates the database; the image is large
    replicas: 1, // one box, one volume
    volumeMounts: { "/data": data },
    deploy: {
      drainingSeconds: 60, // 0 by default: killed at once
      overlapSeconds: 0, // two boxes must never share the volume
      sleepApplication: false, // sleep looks at outgoing packets and would stop a box at work
      restartPolicyType: "ON_FAILURE",
      restartPolicyMaxRetries: 10,
      requiredMountPath: "/data",
    },
    env: {
      STENOBOX_DATA: "/data",
      STENOBOX_MODEL: "small",
      STENOBOX_GRACE: "50", // within drainingSeconds
      STENOBOX_PASSWORD: preserve(), // set it once: railway variables --set STENOBOX_PASSWORD=…
      // What this service may use. Whether Railway shows its limits inside the container is not documented.
      STENOBOX_RAM_MB: "8192",
      STENOBOX_CPUS: "8",
      RAILWAY_RUN_UID: "0", // the volume is root's; the entry point owns it and drops to its own user
    },
  });

  return project("stenobox", { resources: [data, box] });
});
