"""SLAs of tasks, implemented by Airflow's deadline alerts."""
