\set n random(0, :rows - 1)
SELECT status FROM device WHERE imei = 35000000000000 + :n * 7 \gset
\if :status != :n % 4 + 1
SELECT 1 / 0;
\endif
