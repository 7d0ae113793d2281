"""The pages about models in Airflow's UI. Only the api-server imports what is in here."""
