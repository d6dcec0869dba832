"""What users read: tables, GeoJSON and COCO of objects, opened by the programs they are meant for."""
