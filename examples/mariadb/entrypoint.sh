#!/bin/sh
# Makes the database at first start, with a password for root, who may then log
# in from anywhere; then becomes the server.
set -eu

data=/var/lib/mysql
if [ ! -d "$data/mysql" ]; then
	: "${MYSQL_ROOT_PASSWORD:?set it: -e MYSQL_ROOT_PASSWORD=…}"
	mariadb-install-db --user=mysql --datadir="$data" --skip-test-db >/dev/null
	# Inside of quotes SQL needs two escapes.
	password=$(printf %s "$MYSQL_ROOT_PASSWORD" | sed -e 's/\\/\\\\/g' -e "s/'/''/g")
	mariadbd --user=mysql --bootstrap <<-SQL
		FLUSH PRIVILEGES;
		ALTER USER root@localhost IDENTIFIED BY '$password';
		CREATE USER root@'%' IDENTIFIED BY '$password';
		GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
	SQL
fi
unset MYSQL_ROOT_PASSWORD password
exec mariadbd --user=mysql --bind-address=0.0.0.0 "$@"
