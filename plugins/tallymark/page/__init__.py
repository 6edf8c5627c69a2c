"""The Detections page: an app mounted by Airflow's api-server that reads the published snapshot."""
