"""Time and place: DVC's graph read, its stages run by Prefect, the record relayed to MLflow."""
