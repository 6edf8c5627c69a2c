"""The page Detections: an app that Airflow's api-server mounts, over the published snapshot."""
